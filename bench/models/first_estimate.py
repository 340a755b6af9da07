"""A process of its own: PACKAGE KEY FOLDER TIER; prints the tier of its first estimate and its megabytes then."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from twinmodel.estimator import Estimator
from twinmodel.package.archive import load
from twinmodel.package.signing import key_id, load_public_key


def main() -> None:
    """One estimate of one model."""
    package, key, folder, tier = sys.argv[1:]
    public = load_public_key(Path(key))
    loaded = load(Path(package).read_bytes(), {key_id(public): public})
    estimator = Estimator(loaded, tier=tier, cache_dir=Path(folder))
    inputs = np.array([port.nominal for port in loaded.inputs])
    found = estimator.step(estimator.dt_ns, inputs, np.full(len(loaded.outputs), np.nan))
    if not np.isfinite(found.estimate).all():
        raise RuntimeError("no estimate")
    status = Path("/proc/self/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    print(estimator.tier, kilobytes / 1024, flush=True)


if __name__ == "__main__":
    main()
