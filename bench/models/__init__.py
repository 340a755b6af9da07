"""Models beside C and the libraries people use instead; every row of the goals for the runtime of models.

Works of a comparison take turns in one process; a ratio is the median over rounds of two processor times of one round.
C is built here by `-O3 -march=native -ffp-contract=off`, as strict as our kernels, and the fastest of several ways to
write the same work counts; its bits are compared with ours. Figures are None where a compiler or a peer is missing.

    time of ours over that of C: lower is better
kalman_10k_vs_c, kalman_100k_vs_c    generated filter with detectors, 4 states; _own: matrices of each instance
kalman_any_vs_c                      the generic filter, which serves any size, 10,000 instances; _own as above
ode_batch_vs_c, ode_rollout_vs_c     generated: a tick of 1,000 unscented filters; free run of 1,024 lanes
vm_vs_c, vm_filter_vs_c              the op-list machine: the same free run, the same tick of unscented filters
    time of ours over that of ONNX Runtime on one core: lower is better
mlp_batch_vs_ort                     4,096 rows, both in doubles; _f32: theirs in floats, ours in doubles all the same
    how many times faster ours is: higher is better
vm_vs_numpy                          the op-list machine, free run of 1,024 lanes, and the same in NumPy
step_vs_filterpy, ukf_vs_filterpy    one filter: set, tick, read; with detectors
batch_vs_simdkalman, batch_vs_numpy  2,000 filters; NumPy by stacked matrices
batch_vs_interpreted                 our own interpreted tier, rows of lanes in NumPy, the same work
fmpy_vs_ours                         set, step, get of one instance; ours is a whole filter with sigma
ort_single_vs_ours                   one row through a network of 2 layers of 32, theirs in floats
    costs, of the fastest round, for neighbours on the machine only ever add: lower is better
verify_load_ms                       checks a signed package and reads it
warm_start_s, rss_mb                 process to first estimate with a warm cache, and its memory
warm_start_aot_s, rss_aot_mb         the same with the linked library, without LLVM
kalman_ns, kalman_own_ns, ode_batch_ns, ode_rollout_ns   ours, one instance and tick
step_us, ukf_us, mlp_single_us                           ours, one call
parity_bits_different                bits of all kernels and all C that differ from the interpreted tier: must be 0
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.models import kalman, network, ode, plants, process, strict_c

FROM_C = (
    "kalman_10k_vs_c", "kalman_100k_vs_c", "kalman_any_vs_c", "kalman_10k_own_vs_c", "kalman_100k_own_vs_c",
    "kalman_any_own_vs_c", "kalman_ns", "kalman_own_ns", "ode_batch_vs_c", "ode_rollout_vs_c", "vm_vs_c",
    "vm_filter_vs_c", "vm_vs_numpy", "ode_batch_ns", "ode_rollout_ns", "fmpy_vs_ours", "parity_bits_different",
)  # fmt: skip


def run(*, quick: bool = False) -> Mapping[str, float | None]:
    """Measures and returns the figures by name."""
    figures: dict[str, float | None] = {}
    blob, key, package, plan = plants.supply()
    figures |= process.verify_load(blob, key, 20 if quick else 100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if strict_c.compiler() is None:
            print("no C compiler on PATH: what is compared with C is not measured", file=sys.stderr)
            figures |= dict.fromkeys(FROM_C)
        else:
            figures |= kalman.against_c(folder, quick=quick)
            figures |= ode.against_c(plan, package, folder, quick=quick)
            figures |= ode.against_fmpy(plan, package, folder, quick=quick)
            different = [figures.pop(f"{part}_bits_different") or 0.0 for part in ("kalman", "ode", "rollout")]
            figures["parity_bits_different"] = sum(different)
        figures |= kalman.against_filterpy(quick=quick)
        figures |= kalman.against_batches(quick=quick)
        figures |= ode.against_filterpy(plan, package, quick=quick)
        figures |= network.against_onnxruntime(quick=quick)
        path = folder / "supply.twin"
        path.write_bytes(blob)
        figures |= process.starts(path, key, folder, quick=quick)
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}
