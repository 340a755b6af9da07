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
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import StorageError
from twinmodel.kernel.arena import F64, I32, Step

MAGIC: Final = b"TWINKRN1"
SOURCES: Final = ("lanes.py", "linear.py", "ode.py", "compile.py", "machine.py", "proof.py", "reference.py")
BYTES_MAX: Final = 16 << 20
ENTRY: Final = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p, ctypes.c_int64] * 6, ctypes.c_int64)
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

    def __call__(self, I: I32, M: F64, S: F64, Z: F64, O: F64, G: F64, W: int) -> None:  # noqa: E741
        """See `arena.Step`; raises TypeError for an array the code could not read."""
        self._entry(
            *_place(I, np.int32),
            *_place(M, np.float64),
            *_place(S, np.float64),
            *_place(Z, np.float64),
            *_place(O, np.float64),
            *_place(G, np.float64),
            W,
        )


def _address(name: str) -> int | None:
    """Where a function of the C library lies."""
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value


def _place(array: NDArray[Any], kind: type) -> tuple[int, int]:
    if array.dtype != kind or not array.flags.c_contiguous:
        raise TypeError(f"an array of {array.dtype} where contiguous {kind.__name__} is needed")
    return array.ctypes.data, array.size


def _llvm() -> Any:
    """LLVM by llvmlite, ready for this processor; imported late, for it takes 40 MB."""
    llvm = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm
