"""Compiled kernels without waiting for the compiler: a private cache folder and a compiler in the background.

    request("ode", folder)  -> starts compiling (or loading from the cache) beside the caller
    compiled("ode")         -> None until it is ready, then the kernel
    warm(folder)            -> compiles everything now; for installers and images

Files of the cache are machine code, so a folder that anyone else could write to would let them run code here; such a
folder is refused and the interpreted tier goes on. The compiler runs in a child: this process never loads numba.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib.util
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from twinmodel.errors import ConflictError, StorageError
from twinmodel.kernel import machine
from twinmodel.kernel.arena import Step
from twinmodel.kernel.reference import KERNELS

COMPILE_S: Final = 600.0
STOP_S: Final = 5.0
FAMILIES: Final = tuple(KERNELS)
_log = structlog.get_logger(__name__)


def cache_folder(given: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """The folder compiled kernels are kept in: `given`, else NUMBA_CACHE_DIR, else the user's cache.

    Returns:
        A folder that exists, belongs to this user alone and can be written; None when there is none.
    """
    environ = os.environ if environ is None else environ
    if given is None and environ.get("NUMBA_CACHE_DIR"):
        given = Path(environ["NUMBA_CACHE_DIR"])
    if given is None and environ.get("XDG_CACHE_HOME"):
        given = Path(environ["XDG_CACHE_HOME"]) / "hybridtwin" / "kernels"
    if given is None and environ.get("HOME"):
        given = Path(environ["HOME"]) / ".cache" / "hybridtwin" / "kernels"
    return given if given is not None and _private(given) else None


def _private(folder: Path) -> bool:
    """Creates the folder 0700 if need be and proves that nobody else can put files into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = folder.lstat()
        if not stat.S_ISDIR(place.st_mode) or place.st_uid != os.geteuid() or place.st_mode & 0o077:
            return False
        for parent in folder.absolute().parents:
            above = parent.stat()
            shared = above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX
            if shared or above.st_uid not in {0, os.geteuid()}:
                return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


class _Compiler:
    """The compiled kernels of this process, and the children that compile what the folder does not hold yet."""

    def __init__(self) -> None:
        self._locks = {family: threading.Lock() for family in FAMILIES}
        self._ready: dict[str, Step] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()

    def ready(self, family: str) -> Step | None:
        return self._ready.get(family)

    def request(self, family: str, folder: Path) -> None:
        """Starts a thread for a family that nobody has asked for yet."""
        if family in self._threads or family in self._ready:
            return
        thread = threading.Thread(target=self._background, args=(family, folder), name=f"compile-{family}", daemon=True)
        self._threads[family] = thread
        thread.start()

    def obtain(self, family: str, folder: Path) -> Step:
        """Loads a family, compiled first if need be; waits for whoever does so already."""
        with self._locks[family]:
            if family not in self._ready:
                self._ready[family] = self._load_or_compile(family, folder)
            return self._ready[family]

    def wait(self, timeout_s: float) -> None:
        for thread in list(self._threads.values()):
            thread.join(timeout_s)

    def stop(self) -> None:
        """Ends the children; the interpreter must not go away while a thread is in LLVM."""
        self._stopping.set()
        for child in list(self._children.values()):
            if child.poll() is None:
                child.kill()
        self.wait(STOP_S)

    def _background(self, family: str, folder: Path) -> None:
        try:
            if not self._stopping.is_set():
                self.obtain(family, folder)
        except Exception as error:  # noqa: BLE001 - whatever LLVM or a broken install raises, the interpreted tier goes on
            if not self._stopping.is_set():
                _log.warning("kernel_not_compiled", family=family, folder=str(folder), error=repr(error))

    def _load_or_compile(self, family: str, folder: Path) -> Step:
        path = folder / machine.file_name(family)
        found = _load(path)
        if found is not None:
            return found
        # Agents that start together share one compilation: the first compiles, the others wait and load.
        with (folder / f"{family}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _load(path)
            if found is None:
                self._compile(family, path)
                found = machine.load(path)
        return found

    def _compile(self, family: str, path: Path) -> None:
        # Vendor math libraries round differently from one processor to the next.
        environment = {**os.environ, "NUMBA_DISABLE_INTEL_SVML": "1"}
        command = [sys.executable, "-m", "twinmodel.kernel.compile", family, str(path)]
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:  # noqa: S603 - our own module
            self._children[family] = child
            try:
                _, words = child.communicate(timeout=COMPILE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        if child.returncode:
            raise StorageError("STATE_INVALID", f"the compiler ended with {child.returncode}: {words.decode()[-500:]}")


def _load(path: Path) -> Step | None:
    """The kernel of a file, None when there is none; a torn one is removed."""
    try:
        return machine.load(path)
    except FileNotFoundError:
        return None
    except StorageError:
        path.unlink(missing_ok=True)
        return None


_compiler = _Compiler()
atexit.register(_compiler.stop)


def request(family: str, folder: Path) -> None:
    """Has a family compiled beside the caller; a second request, or one without numba, changes nothing."""
    if importlib.util.find_spec("numba") is not None:
        _compiler.request(family, folder)


def compiled(family: str) -> Step | None:
    """The compiled kernel of a family once it is ready."""
    return _compiler.ready(family)


def wait(timeout_s: float) -> None:
    """Waits for what was requested; for tests and benches."""
    _compiler.wait(timeout_s)


def compile_now(family: str, cache_dir: Path | None = None) -> Step:
    """The compiled kernel of a family, compiled on the spot if need be.

    Raises:
        StorageError: STATE_INVALID when there is no private folder to keep it in.
        ConflictError: EXTRA_MISSING when numba is not installed.
    """
    ready = _compiler.ready(family)
    if ready is not None:
        return ready
    folder = cache_folder(cache_dir)
    if folder is None:
        message = f"no private, writable folder for compiled kernels (tried {cache_dir or 'the defaults'})"
        raise StorageError("STATE_INVALID", message, hint="give a folder that this user owns with mode 0700")
    if importlib.util.find_spec("numba") is None:
        message = "compiled kernels need numba, of the extra hybridtwin[edge]"
        raise ConflictError("EXTRA_MISSING", message, extra="edge")
    return _compiler.obtain(family, folder)


def warm(cache_dir: Path | None = None) -> tuple[str, ...]:
    """Compiles every generic kernel into the cache folder; the names of those ready.

    Raises:
        StorageError: STATE_INVALID when there is no private folder to keep them in.
        ConflictError: EXTRA_MISSING when numba is not installed.
    """
    with ThreadPoolExecutor(len(FAMILIES)) as pool:
        list(pool.map(lambda family: compile_now(family, cache_dir), FAMILIES))
    return FAMILIES
