"""Compiles one kernel family to an object file; run as a process of its own: `python -m twinmodel.kernel.compile`.

numba and LLVM take 200 MB and many seconds. In a child they cost the caller neither: it loads the finished machine
code, and a compiler that crashes takes nobody along. This module alone imports numba.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from twinmodel.kernel import machine
from twinmodel.kernel.proof import prove

NICE = 10
# Modules that are not called like their family.
_MODULES = {"rollout": "rollout_lanes"}
# numba's own annotations leave out half of its names.
numba: Any = importlib.import_module("numba")


def compile_family(family: str) -> tuple[str, bytes]:
    """Symbol and object code of a family's step, for the processor of this machine.

    The entry takes the addresses of its arrays and their lengths, then the number of lanes, see `machine.ENTRY`.
    """
    module = importlib.import_module(f"twinmodel.kernel.{_MODULES.get(family, family)}")
    step = getattr(module, f"{family}_step")
    types = numba.types

    def entry(places: Any, sizes: Any) -> None:
        step(
            numba.carray(places[0], (sizes[0],), np.int32),
            numba.carray(places[1], (sizes[1],), np.float64),
            numba.carray(places[2], (sizes[2],), np.int32),
            numba.carray(places[3], (sizes[3],), np.float64),
            numba.carray(places[4], (sizes[4],), np.float64),
            numba.carray(places[5], (sizes[5],), np.float64),
            numba.carray(places[6], (sizes[6],), np.float64),
            sizes[7],
        )

    signature = types.void(types.CPointer(types.voidptr), types.CPointer(types.int64))
    compiled = numba.cfunc(signature, nopython=True)(entry)
    # The library of a cfunc holds everything it calls; there is no public name for its object code.
    code: bytes = compiled._library._get_compiled_object()  # noqa: SLF001 - see above
    return str(compiled.native_name), code


def main() -> None:
    """Compiles FAMILY into the file PATH; the file appears complete and proven or not at all."""
    family, path = sys.argv[1], Path(sys.argv[2])
    os.nice(NICE)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        machine.write(draft, *compile_family(family))
        prove(family, machine.load(draft))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
