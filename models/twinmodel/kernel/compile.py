"""Compiles one kernel to an object file; run as a process of its own: `python -m twinmodel.kernel.compile`.

    FAMILY PATH          the generic kernel of a family, by numba
    FAMILY PATH jit      the kernel of one signature, by LLVM alone; standard input is the plan, see `warmup`

numba and LLVM take 200 MB and many seconds. In a child they cost the caller neither: it loads the finished machine
code, and a compiler that crashes takes nobody along. This module alone imports numba.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from twinmodel.kernel import machine
from twinmodel.kernel.arena import I32, Plan, layout_of
from twinmodel.kernel.generate.form import TooLargeError
from twinmodel.kernel.generate.generic import generic_linear_form
from twinmodel.kernel.generate.ir import compile_ir, print_ir
from twinmodel.kernel.generate.linear import linear_form
from twinmodel.kernel.generate.ode import ode_form, rollout_form
from twinmodel.kernel.proof import prove, prove_on

ARRAYS: Final = "IMKSZOG"
NUMBERS: Final = ("W",)
FORMS: Final = {"linear": linear_form, "ode": ode_form, "rollout": rollout_form}
# Modules that are not called like their family.
_MODULES: Final = {"rollout": "rollout_lanes"}


def compile_family(family: str) -> tuple[str, bytes]:
    """Symbol and object code of a family's step, for the processor of this machine.

    The entry takes the addresses of its arrays and their lengths, then the number of lanes, see `machine.ENTRY`.
    """
    if family == "linear":
        return "generic_linear", compile_ir(print_ir("generic_linear", generic_linear_form(), ARRAYS, NUMBERS))
    # numba's own annotations leave out half of its names.
    numba: Any = importlib.import_module("numba")
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

    # Names of the object code come from these; kernels that are linked into one library need different ones.
    entry.__name__ = entry.__qualname__ = f"{family}_entry"
    signature = types.void(types.CPointer(types.voidptr), types.CPointer(types.int64))
    compiled = numba.cfunc(signature, nopython=True)(entry)
    # The library of a cfunc holds everything it calls; there is no public name for its object code.
    code: bytes = compiled._library._get_compiled_object()  # noqa: SLF001 - see above
    return str(compiled.native_name), code


def compile_signature(family: str, integers: I32) -> tuple[str, bytes]:
    """Symbol and object code of the kernel of one signature; family `rollout` gives its free run.

    Raises:
        TooLargeError: the generic kernel serves it better.
    """
    name = f"twin_{family}"
    return name, compile_ir(print_ir(name, FORMS[family](integers), ARRAYS, NUMBERS))


def _plan(family: str, blob: bytes) -> Plan:
    """The plan a parent has written with `numpy.savez`."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        integers = arrays["integers"]
        own = family if family != "rollout" else ("ode" if integers[6] else "linear")
        return Plan(own, layout_of(own, integers), integers, arrays["reals"], arrays["params"])


def main() -> None:
    """Compiles FAMILY into the file PATH; the file appears complete and proven or not at all."""
    family, path = sys.argv[1], Path(sys.argv[2])
    plan = _plan(family, sys.stdin.buffer.read()) if sys.argv[3:] == ["jit"] else None
    os.nice(machine.NICE)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        made = compile_family(family) if plan is None else compile_signature(family, plan.integers)
        machine.write(draft, *made)
        if plan is None:
            prove(family, machine.load(draft))
        else:
            prove_on(family, plan, machine.load(draft))
        draft.replace(path)
    except TooLargeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(machine.TOO_LARGE)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
