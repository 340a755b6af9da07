"""Compiled kernels without waiting for the compiler: a private cache folder and one background thread.

    request("ode", folder)  -> starts compiling (or loading from the cache) beside the caller
    compiled("ode")         -> None until it is ready, then the kernel
    warm(folder)            -> compiles everything now; for installers and images

Cache files are pickles, so a folder that anyone else could write to would let them run code here; such a folder
is refused and the interpreted tier goes on.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import stat
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import structlog

from twinmodel.errors import ConflictError, StorageError
from twinmodel.kernel.arena import Step
from twinmodel.kernel.reference import KERNELS

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
    """The compiled kernels of this process; numba keeps one set of them, so there is one compiler."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: dict[str, Step] = {}
        self._faults: dict[str, Exception] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def ready(self, family: str) -> Step | None:
        return self._ready.get(family)

    def request(self, family: str, folder: Path) -> None:
        """Starts a thread for a family that nobody has asked for yet."""
        if family in self._threads or family in self._ready:
            return
        # A daemon, and joined at exit: the interpreter must not go away under LLVM.
        thread = threading.Thread(target=self._background, args=(family, folder), name=f"compile-{family}", daemon=True)
        self._threads[family] = thread
        thread.start()

    def compile(self, family: str, folder: Path) -> Step:
        """Compiles now, or waits for whoever does; raises what the compiler raises."""
        with self._lock:
            if family not in self._ready:
                self._ready[family] = self._build(family, folder)
            return self._ready[family]

    def wait(self, timeout_s: float) -> None:
        for thread in list(self._threads.values()):
            thread.join(timeout_s)

    def stop(self) -> None:
        self._stopping.set()
        self.wait(30.0)

    def _background(self, family: str, folder: Path) -> None:
        try:
            if not self._stopping.is_set():
                self.compile(family, folder)
        except Exception as error:  # noqa: BLE001 - whatever LLVM or a broken install raises, the interpreted tier goes on
            self._faults[family] = error
            _log.warning("kernel_not_compiled", family=family, folder=str(folder), error=repr(error))

    def _build(self, family: str, folder: Path) -> Step:
        try:
            return _load(family, folder)
        except ImportError:
            raise
        except Exception:  # noqa: BLE001 - a torn cache file raises anything a pickle can raise; it is dropped, once
            for file in folder.glob("*/*.nb[ic]"):
                file.unlink(missing_ok=True)
            return _load(family, folder)


def _load(family: str, folder: Path) -> Step:
    """Imports numba and the family's module with its cache in `folder`, then compiles or loads the one signature."""
    # Vendor math libraries round differently from one processor to the next.
    os.environ.setdefault("NUMBA_DISABLE_INTEL_SVML", "1")
    config = importlib.import_module("numba").config
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        lanes = importlib.import_module("twinmodel.kernel.lanes")
        module = importlib.import_module(f"twinmodel.kernel.{family}")
        step = getattr(module, f"{family}_step")
        step.compile(lanes.STEP)
    finally:
        config.CACHE_DIR = before
    return cast("Step", step)


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
    try:
        return _compiler.compile(family, folder)
    except ImportError as error:
        message = "compiled kernels need numba, of the extra hybridtwin[edge]"
        raise ConflictError("EXTRA_MISSING", message, extra="edge") from error


def warm(cache_dir: Path | None = None) -> tuple[str, ...]:
    """Compiles every generic kernel into the cache folder; the names of those ready.

    Raises:
        StorageError: STATE_INVALID when there is no private folder to keep them in.
        ConflictError: EXTRA_MISSING when numba is not installed.
    """
    for family in FAMILIES:
        compile_now(family, cache_dir)
    return FAMILIES
