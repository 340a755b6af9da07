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
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import StorageError
from twinmodel.kernel.arena import F64, I32, Bound, Step

MAGIC: Final = b"TWINKRN1"
SOURCES: Final = (
    "arena.py",
    "drift.py",
    "drift_reference.py",
    "lanes.py",
    "linear.py",
    "ode.py",
    "ops.py",
    "transcendental.py",
    "vm.py",
    "vm_reference.py",
    "compile.py",
    "machine.py",
    "proof.py",
    "reference.py",
    "rollout.py",
    "rollout_lanes.py",
    "rollout_reference.py",
)
BYTES_MAX: Final = 16 << 20
# Addresses of the arrays I M K S Z O G; their lengths, then the lanes. Two arguments, for each costs its time.
ENTRY: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_KINDS: Final = (np.int32, np.float64, np.int32, np.float64, np.float64, np.float64, np.float64)
# What compiled code may call: the C library for memory, and what numba adds for exceptions and objects. Kernels make
# neither, so the latter is never reached; should it be, it must stop.
_MEMORY: Final = ("memcpy", "memmove", "memset")
_UNREACHED: Final = (
    "NRT_Free", "NRT_MemInfo_call_dtor", "numba_do_raise", "numba_gil_ensure", "numba_gil_release",
    "numba_runtime_build_excinfo_struct", "numba_unpickle", "PyBytes_FromStringAndSize", "PyErr_Clear",
    "PyErr_SetNone", "PyErr_SetString", "PyErr_WriteUnraisable", "PyExc_RuntimeError", "PyExc_StopIteration",
    "PyExc_SystemError", "PyUnicode_FromString", "Py_DecRef",
)  # fmt: skip


def file_name(family: str) -> str:
    """Name of the file that holds a family's code for this machine and this version of everything."""
    llvm = _llvm()
    about = hashlib.sha256()
    folder = Path(__file__).parent
    for source in SOURCES:
        about.update((folder / source).read_bytes())
    versions = [importlib.metadata.version(name) for name in ("numba", "llvmlite", "numpy")]
    processor = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), os.environ.get("NUMBA_CPU_NAME", "")]
    about.update(repr((family, versions, processor, sys.version_info[:2])).encode())
    return f"{family}-{about.hexdigest()[:32]}.kernel"


def write(path: Path, symbol: str, code: bytes) -> None:
    """Writes a file as one step, for its owner alone."""
    body = symbol.encode() + b"\n" + code
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(MAGIC + hashlib.sha256(body).digest() + body)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> Step:
    """The kernel of a file.

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
    return Machine(symbol.decode(), code)


class Machine:
    """A compiled step; called as the interpreted one is."""

    def __init__(self, symbol: str, code: bytes) -> None:
        llvm = _llvm()
        for name in _MEMORY:
            llvm.add_symbol(name, _address(name))
        for name in _UNREACHED:
            llvm.add_symbol(name, _address("abort"))
        target = llvm.Target.from_default_triple().create_target_machine(jit=True)
        # The engine owns the memory the code lies in.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self._entry = ENTRY(self._engine.get_function_address(symbol))

    def __call__(self, I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741
        """See `arena.Step`; raises TypeError for an array the code could not read."""
        self.bind(I, M, K, S, Z, O, G, W)()

    def bind(self, I: I32, M: F64, K: I32, S: F64, Z: F64, O: F64, G: F64, W: int) -> Bound:  # noqa: E741
        """The call on these very arrays, its arguments prepared once; the arrays live as long as it does."""
        arrays = (I, M, K, S, Z, O, G)
        return prepare(self, self._entry, arrays, _KINDS, W)


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
    call = partial(entry, ctypes.addressof(places), ctypes.addressof(sizes))
    vars(call)["held"] = (owner, arrays, places, sizes)
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
