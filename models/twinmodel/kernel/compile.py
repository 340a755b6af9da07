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
# numba's own annotations leave out half of its names.
numba: Any = importlib.import_module("numba")


def compile_family(family: str) -> tuple[str, bytes]:
    """Symbol and object code of a family's step, for the processor of this machine.

    The entry takes each array as address and length, then the number of lanes, see `machine.ENTRY`.
    """
    module = importlib.import_module(f"twinmodel.kernel.{family}")
    step = getattr(module, f"{family}_step")
    types = numba.types
    integers, reals, size = types.CPointer(types.int32), types.CPointer(types.float64), types.int64

    def entry(
        i: Any, ni: int, m: Any, nm: int, s: Any, ns: int, z: Any, nz: int, o: Any, no: int, g: Any, ng: int, w: int
    ) -> None:
        step(
            numba.carray(i, (ni,), np.int32),
            numba.carray(m, (nm,), np.float64),
            numba.carray(s, (ns,), np.float64),
            numba.carray(z, (nz,), np.float64),
            numba.carray(o, (no,), np.float64),
            numba.carray(g, (ng,), np.float64),
            w,
        )

    signature = types.void(integers, size, *[reals, size] * 5, size)
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
