"""The generic kernels as one shared library, for gateways short of memory: loaded by the C library's loader alone.

    aot-<fingerprint>.so        the objects of `compile`, linked once by the compiler or linker of the machine
    aot-<fingerprint>.sha256    its hash; a library without it, or with another, is not loaded

Neither numba nor LLVM is imported to run it, which saves their memory. It lies in the private folder of `warmup`, is
proven against the interpreted kernels in a child before it gets its name, and its name changes with the sources and
the processor, so that a stale one is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinmodel.errors import ConflictError, StorageError
from twinmodel.kernel import machine
from twinmodel.kernel.machine import Compiled

LINK_S: Final = 120.0
PROVE_S: Final = 300.0


def path(folder: Path) -> Path:
    """Where the library for this machine lies, whether it is there or not."""
    return folder / f"aot-{machine.fingerprint('aot', 'linear', 'ode', 'rollout')}.so"


def load(folder: Path, family: str) -> Compiled | None:
    """A family's kernel from the library of a folder, None when there is none that is whole."""
    library = path(folder)
    seal = library.with_suffix(".sha256")
    try:
        if hashlib.sha256(library.read_bytes()).hexdigest().encode() != seal.read_bytes():
            return None
        return open_library(library, family)
    except OSError:
        return None


def open_library(library: Path, family: str) -> Compiled:
    """A family's kernel of a library.

    Raises:
        OSError: when it is none, or the file system forbids running code.
    """
    loaded = ctypes.CDLL(str(library))
    try:
        entry = getattr(loaded, f"twin_{family}")
    except AttributeError as error:
        raise OSError(f"{library} holds no {family} kernel") from error
    return Compiled(loaded, ctypes.cast(entry, ctypes.c_void_p).value or 0)


def build(folder: Path, files: Mapping[str, Path]) -> Path:
    """Links the kernels of `files` (family to file) into the library of a folder.

    Raises:
        ConflictError: LINKER_MISSING when the machine has neither a C compiler nor a linker.
        StorageError: STATE_INVALID when linking or the proof fails; nothing has changed then.
    """
    linker = next((found for name in ("cc", "gcc", "clang", "ld", "ld.lld") if (found := shutil.which(name))), None)
    if linker is None:
        raise ConflictError("LINKER_MISSING", "the kernels cannot be linked: no C compiler and no linker on PATH")
    library = path(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix="aot-") as scratch:
        draft = _link(linker, Path(scratch), files)
        _prove(draft, tuple(files))
        seal = Path(scratch) / "seal"
        seal.write_text(hashlib.sha256(draft.read_bytes()).hexdigest())
        # The seal first: until the library is there too, it seals nothing.
        seal.replace(library.with_suffix(".sha256"))
        draft.replace(library)
    for old in (*folder.glob("aot-*.so"), *folder.glob("aot-*.sha256")):
        if old.stem != library.stem:
            old.unlink(missing_ok=True)
    return library


def _link(linker: str, scratch: Path, files: Mapping[str, Path]) -> Path:
    objects, entries = [], {}
    for family, file in files.items():
        entries[family], code = machine.read(file)
        objects.append(scratch / f"{family}.o")
        objects[-1].write_bytes(code)
    stubs = scratch / "stubs.o"
    # Compiled in a child: this process never loads LLVM for it.
    _call(
        [sys.executable, "-m", "twinmodel.kernel.stubs", str(stubs)],
        LINK_S,
        "\n".join(f"{family} {symbol}" for family, symbol in entries.items()),
    )
    draft = scratch / "kernels.so"
    # Families share helper functions; whichever comes first serves all.
    only = ["-shared", "-z", "muldefs", "-z", "notext", "-Bsymbolic"]
    if Path(linker).name not in {"ld", "ld.lld"}:
        only = ["-shared", "-nostdlib", *(f"-Wl,{flag}" for flag in ("-z,muldefs", "-z,notext", "-Bsymbolic"))]
    _call([linker, *only, "-o", str(draft), str(stubs), *map(str, objects)], LINK_S)
    draft.chmod(0o600)
    return draft


def _prove(draft: Path, families: tuple[str, ...]) -> None:
    """The proof of `proof`, in a child: code that crashes takes nobody along."""
    _call([sys.executable, "-m", "twinmodel.kernel.aot", str(draft), *families], PROVE_S)


def _call(command: list[str], timeout_s: float, given: str = "") -> None:
    done = subprocess.run(  # noqa: S603 - a compiler of this machine or our own module
        command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        message = f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr[-500:]}"
        raise StorageError("STATE_INVALID", message)


def main() -> None:
    """Proves the families of a library: LIBRARY FAMILY..."""
    # Only here: whoever merely loads a library needs no proof.
    from twinmodel.kernel.proof import prove  # noqa: PLC0415 - as above; it would also be a cycle

    os.nice(machine.NICE)
    library, *families = sys.argv[1:]
    for family in families:
        prove(family, open_library(Path(library), family))


if __name__ == "__main__":
    main()
