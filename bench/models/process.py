"""What a process with one model costs: loading a package, the way to the first estimate, memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bench.models.turns import by_turns, repeated
from twinmodel.estimator import Estimator
from twinmodel.kernel import aot, machine, warmup
from twinmodel.package.archive import load
from twinmodel.package.signing import key_id, save_public_key

START_S = 120
LOADS = 20
# Run by its path: a process that imported this package would hold its libraries too.
_CHILD = Path(__file__).with_name("first_estimate.py")


def verify_load(blob: bytes, public: Ed25519PublicKey, rounds: int) -> dict[str, float | None]:
    """Milliseconds to check a signed package and read it."""
    trusted = {key_id(public): public}
    seconds = by_turns({"load": repeated(lambda: load(blob, trusted), LOADS)}, rounds)["load"]
    return {"verify_load_ms": float(seconds.min()) / LOADS * 1e3}


def starts(package: Path, public: Ed25519PublicKey, scratch: Path, *, quick: bool) -> dict[str, float | None]:
    """Seconds from the start of a process to its first estimate, cache warm, and its memory; then by the library."""
    folder = warmup.cache_folder()
    if folder is None:
        return dict.fromkeys(("warm_start_s", "rss_mb", "rss_aot_mb"))
    key = scratch / "signer.pem"
    save_public_key(key, public)
    # The first start fills the cache.
    Estimator(load(package.read_bytes(), {key_id(public): public}), tier="jit")
    runs = [_start(package, key, folder, "jit") for _ in range(4 if quick else 9)]
    figures: dict[str, float | None] = {
        "warm_start_s": min(seconds for seconds, _ in runs),
        "rss_mb": max(megabytes for _, megabytes in runs),
        "rss_aot_mb": None,
    }
    beside = library_folder(folder)
    if beside is not None:
        seconds, megabytes = _start(package, key, beside, "vm")
        figures |= {"rss_aot_mb": megabytes, "warm_start_aot_s": seconds}
    return figures


def library_folder(folder: Path) -> Path | None:
    """A folder beside the cache that holds the linked library; made anew when sources have changed."""
    beside = warmup.cache_folder(folder.with_name(f"{folder.name}-aot"))
    if beside is None or aot.path(beside).exists():
        return beside
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang", "ld", "ld.lld")):
        return None
    for family in warmup.FAMILIES:
        name = machine.file_name(family)
        warmup.compile_now(family)
        if (folder / name).exists():
            shutil.copy(folder / name, beside / name)
    warmup.link(beside)
    return beside


def _start(package: Path, key: Path, folder: Path, tier: str) -> tuple[float, float]:
    """Seconds until a new process has an estimate, and its megabytes then."""
    command = [sys.executable, str(_CHILD), str(package), str(key), str(folder), tier]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        if child.stdout is None:
            raise RuntimeError("a child without output")
        line = child.stdout.readline()
        seconds = time.perf_counter() - begin
        child.communicate(timeout=START_S)
    used, megabytes = line.split()
    if used != tier:
        raise RuntimeError(f"the process ran on {used}, not on {tier}")
    return seconds, float(megabytes)
