"""Machine code of kernels as files: written by `compile`, loaded here by LLVM's linker alone, without numba.

    magic | sha256 of the rest | symbol, newline | relocatable object code (ELF)

Whoever can write such a file can run code in the agent, so they lie in a folder that only its user can write to (see
`warmup.cache_folder`). The hash finds torn files, it is no signature. A file is named after all it depends on: sources
of the kernels, compiler, processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.metadata
import os
import platform
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import StorageError
from twinmodel.files import write_durably
from twinmodel.kernel.arena import F64, I32, Bound, Plan, Step

MAGIC: Final = b"TWINKRN1"
# How far compilers and linkers step back behind whatever else runs.
NICE: Final = 10
# A compiler's exit code for a model whose generated kernel would be too large.
TOO_LARGE: Final = 3
BYTES_MAX: Final = 16 << 20
# What each kernel is made from: a change of these compiles it anew. The way of calling it has a number of its own.
_CALL: Final = 2
_FILTER: Final = ("arena.py", "drift.py", "lanes.py")
_LISTS: Final = ("arena.py", "lanes.py", "ops.py", "transcendental.py", "vm.py", "vm_reference.py")
SOURCES: Final = {
    "linear": ("arena.py", "drift_reference.py", "generate/*.py"),
    "ode": (*_FILTER, *_LISTS, "ode.py"),
    "rollout": (*_LISTS, "rollout_lanes.py"),
    "jit": (*_LISTS, "reference.py", "drift_reference.py", "generate/*.py"),
}

# Addresses of the arrays I M K S Z O G; their lengths, then the lanes. Two arguments, for each costs its time.
# Declared without their types: references go through as they are, which halves the time of a call.
ENTRY: Final = ctypes.CFUNCTYPE(None)
_KINDS: Final = (np.int32, np.float64, np.int32, np.float64, np.float64, np.float64, np.float64)
# What compiled code may call: the C library for memory, and what numba adds for exceptions and objects. Kernels make
# neither, so the latter is never reached; should it be, it must stop.
_MEMORY: Final = ("memcpy", "memmove", "memset")
UNREACHED: Final = (
    "NRT_Free", "NRT_MemInfo_call_dtor", "numba_do_raise", "numba_gil_ensure", "numba_gil_release",
    "numba_runtime_build_excinfo_struct", "numba_unpickle", "PyBytes_FromStringAndSize", "PyErr_Clear",
    "PyErr_SetNone", "PyErr_SetString", "PyErr_WriteUnraisable", "PyExc_RuntimeError", "PyExc_StopIteration",
    "PyExc_SystemError", "PyUnicode_FromString", "Py_DecRef",
)  # fmt: skip


def signature(plan: Plan) -> str:
    """Hex hash of what the code of a kernel depends on: family, sizes and programs; plans that share it share code."""
    about = plan.family.encode() + b"\n" + plan.integers.astype("<i4").tobytes()
    return hashlib.sha256(about).hexdigest()


def file_name(family: str, plan: Plan | None = None) -> str:
    """Name of the file that holds a family's code, or that of one signature, for this machine and all versions."""
    versions = []
    for package in ("numba", "llvmlite", "numpy"):
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            versions.append("")
    about = (family, versions, sys.version_info[:2], "" if plan is None else signature(plan))
    if plan is None:
        return f"{family}-{fingerprint(repr(about), family)}.kernel"
    return f"{family}-jit-{fingerprint(repr(about), 'jit')}.kernel"


def fingerprint(about: str, *kinds: str) -> str:
    """Hash of `about`, of the sources of some kinds of kernels, and of the processor."""
    digest = hashlib.sha256(f"{_CALL} {about}".encode())
    folder = Path(__file__).parent
    for name in sorted({name for kind in kinds for name in SOURCES[kind]}):
        for source in sorted(folder.glob(name)):
            digest.update(source.read_bytes())
    digest.update(repr((_processor(), os.environ.get("NUMBA_CPU_NAME", ""))).encode())
    return digest.hexdigest()[:32]


def _processor() -> tuple[str, ...]:
    """What tells processors apart whose instructions differ; read without LLVM, which takes 40 MB."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        first = ""
    keys = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    kept = (line for line in first.splitlines() if line.partition(":")[0].strip() in keys)
    return (platform.machine(), platform.processor(), *kept)


def write(path: Path, symbol: str, code: bytes) -> None:
    """Writes a file as one step, for its owner alone; raises StorageError."""
    body = symbol.encode() + b"\n" + code
    write_durably(path, MAGIC + hashlib.sha256(body).digest() + body)


def read(path: Path) -> tuple[str, bytes]:
    """Symbol and object code of a file.

    Raises:
        FileNotFoundError: there is none.
        StorageError: STORE_CORRUPT when it is torn or altered.
    """
    with path.open("rb") as file:
        blob = file.read(BYTES_MAX + 1)
    start = len(MAGIC) + hashlib.sha256().digest_size
    body = blob[start:]
    if blob[:start] != MAGIC + hashlib.sha256(body).digest() or len(blob) > BYTES_MAX:
        raise StorageError("STORE_CORRUPT", f"{path} is no complete kernel", hint="it is compiled again by itself")
    symbol, _, code = body.partition(b"\n")
    return symbol.decode(), code


def load(path: Path) -> Step:
    """The kernel of a file; raises as `read` does."""
    return Machine(*read(path))


class Compiled:
    """A compiled kernel; called as the interpreted one is.

    Args:
        owner: what the code lives in.
        address: of its entry, see `ENTRY`.
    """

    def __init__(self, owner: object, address: int) -> None:
        self._owner = owner
        self._entry = ENTRY(address)

    def __call__(self, I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741
        """See `arena.Step`; raises TypeError for an array the code could not read."""
        self.bind(I, M, K, S, Z, O, G, W)()

    def bind(self, I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> Bound:  # noqa: E741
        """The call on these very arrays, its arguments prepared once; the arrays live as long as it does."""
        return prepare(self, self._entry, (I, M, K, S, Z, O, G), _KINDS, W)


class Machine(Compiled):
    """Object code, linked into this process by LLVM."""

    def __init__(self, symbol: str, code: bytes) -> None:
        llvm = _llvm()
        for name in _MEMORY:
            llvm.add_symbol(name, _address(name))
        for name in UNREACHED:
            llvm.add_symbol(name, _address("abort"))
        target = llvm.Target.from_default_triple().create_target_machine(jit=True)
        # The engine owns the memory the code lies in.
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        super().__init__(engine, engine.get_function_address(symbol))


def prepare(
    owner: object, entry: Any, arrays: tuple[NDArray[Any], ...], kinds: tuple[type, ...], *numbers: int
) -> Bound:
    """A call of compiled code with its arguments ready; it keeps alive what they point to.

    Raises:
        TypeError: for an array the code could not read.
    """
    for array, kind in zip(arrays, kinds, strict=True):
        if array.dtype != kind or not array.flags.c_contiguous:
            raise TypeError(f"an array of {array.dtype} where contiguous {kind.__name__} is needed")
    places = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    sizes = (ctypes.c_int64 * (len(arrays) + len(numbers)))(*(a.size for a in arrays), *numbers)
    call = partial(entry, ctypes.byref(places), ctypes.byref(sizes))
    # References keep what they point to alive; of owner and arrays they know nothing.
    vars(call)["held"] = (owner, arrays)
    return call


def bind(step: Step, I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> Bound:  # noqa: E741
    """One tick of any tier on these very arrays as a call without arguments: about 1 us a call when compiled."""
    prepared = getattr(step, "bind", None)
    bound: Bound = partial(step, I, M, K, S, Z, O, G, W) if prepared is None else prepared(I, M, K, S, Z, O, G, W)
    return bound


def _address(name: str) -> int | None:
    """Where a function of the C library lies."""
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value


def _llvm() -> Any:
    """LLVM by llvmlite, ready for this processor; imported late, for it takes 40 MB."""
    llvm = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm
