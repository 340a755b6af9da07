"""Compiled kernels without waiting for the compiler: a private cache folder and a compiler in the background.

    tier vm    the generic kernel of a family, one for all models
        request("ode", folder)          compiles it (or loads it from the cache) beside the caller
        compiled("ode")                 None until it is ready, then the kernel
    tier jit   the kernel generated for the signature of a plan
        request("ode", folder, plan)    the same; "rollout" with a plan gives its free run
        compiled("ode", plan)
        compile_now("ode", folder, plan)  waits; KERNEL_TOO_LARGE when the generic kernel serves the model better
    warm(folder)                        compiles every generic kernel now; for installers and images

A caller runs on the interpreted kernel, changes to vm and then to jit between two ticks, each when it is ready and has
given the right bits on the model's parity run. One compilation runs at a time, niced, generic kernels first.

Files of the cache are machine code, so a folder that anyone else could write to would let them run code here; such a
folder is refused and the interpreted tier goes on. The compiler runs in a child: this process never loads numba. A
library made by `aot` is preferred; where there is one, nothing is generated, for such a gateway is short of memory.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib.util
import io
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from twinmodel.errors import ConflictError, StorageError
from twinmodel.kernel import aot, machine
from twinmodel.kernel.arena import Plan, Step
from twinmodel.kernel.reference import KERNELS

COMPILE_S: Final = 600.0
STOP_S: Final = 5.0
# What the folder may hold; the files used longest ago go first.
FILES_MAX: Final = 96
FOLDER_BYTES_MAX: Final = 64 << 20
# Kernels asked for and not yet begun; more are asked for again later.
QUEUE_MAX: Final = 64
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


@dataclass(frozen=True, slots=True)
class _Wish:
    """A kernel somebody wants, and where it is kept."""

    name: str
    family: str
    folder: Path
    plan: Plan | None


class _Compiler:
    """The compiled kernels of this process, and the children that compile what the folder does not hold yet."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._ready: dict[str, Step] = {}
        self._asked: set[str] = set()
        self._queue: deque[_Wish] = deque()
        self._idle = threading.Condition()
        self._worker: threading.Thread | None = None
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopping = threading.Event()

    def ready(self, family: str, plan: Plan | None = None) -> Step | None:
        return self._ready.get(key(family, plan))

    def request(self, family: str, folder: Path, plan: Plan | None = None) -> None:
        """Puts a kernel that nobody has asked for yet into the queue."""
        wish = _Wish(key(family, plan), family, folder, plan)
        with self._idle:
            if wish.name in self._asked or wish.name in self._ready or len(self._queue) >= QUEUE_MAX:
                return
            self._asked.add(wish.name)
            if plan is None:
                self._queue.appendleft(wish)
            else:
                self._queue.append(wish)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="compile-kernels", daemon=True)
                self._worker.start()

    def obtain(self, family: str, folder: Path, plan: Plan | None = None) -> Step:
        """Loads a kernel, compiled first if need be; waits for whoever does so already."""
        name = key(family, plan)
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._ready:
                self._ready[name] = self._load_or_compile(family, folder, plan)
            return self._ready[name]

    def wait(self, timeout_s: float) -> None:
        with self._idle:
            self._idle.wait_for(lambda: self._worker is None, timeout_s)

    def stop(self) -> None:
        """Ends the children; the interpreter must not go away while a thread is in LLVM."""
        self._stopping.set()
        for child in list(self._children):
            if child.poll() is None:
                child.kill()
        self.wait(STOP_S)

    def _work(self) -> None:
        """Serves the queue, one after the other, and ends when it is empty."""
        while True:
            with self._idle:
                if not self._queue or self._stopping.is_set():
                    self._worker = None
                    self._idle.notify_all()
                    return
                wish = self._queue.popleft()
            self._serve(wish)

    def _serve(self, wish: _Wish) -> None:
        try:
            self.obtain(wish.family, wish.folder, wish.plan)
        except ConflictError as error:
            if error.reason != "KERNEL_TOO_LARGE":
                self._lost(wish, error)
        except Exception as error:  # noqa: BLE001 - whatever LLVM or a broken install raises, the interpreted tier goes on
            self._lost(wish, error)

    def _lost(self, wish: _Wish, error: Exception) -> None:
        if not self._stopping.is_set():
            _log.warning("kernel_not_compiled", family=wish.name, folder=str(wish.folder), error=repr(error))

    def _load_or_compile(self, family: str, folder: Path, plan: Plan | None) -> Step:
        linked = aot.load(folder, family) if plan is None else None
        if linked is not None:
            return linked
        path = folder / machine.file_name(family, plan)
        found = _load(path)
        if found is not None:
            return found
        # Agents that start together share one compilation: the first compiles, the others wait and load.
        with (folder / f"{family if plan is None else 'jit'}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _load(path)
            if found is None:
                if plan is None:
                    self.compile(family, path)
                else:
                    self.compile(family, path, plan)
                found = machine.load(path)
                _sweep(folder)
        return found

    def compile(self, family: str, path: Path, plan: Plan | None = None) -> None:
        """Compiles a kernel into a file, in a process of its own."""
        # Vendor math libraries round differently from one processor to the next.
        environment = {**os.environ, "NUMBA_DISABLE_INTEL_SVML": "1"}
        command = [sys.executable, "-m", "twinmodel.kernel.compile", family, str(path)]
        given = b""
        if plan is not None:
            command.append("jit")
            written = io.BytesIO()
            np.savez(written, integers=plan.integers, reals=plan.reals, params=plan.params)
            given = written.getvalue()
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # noqa: S603 - our own module
            self._children.add(child)
            try:
                _, words = child.communicate(given, timeout=COMPILE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
            finally:
                self._children.discard(child)
        if plan is not None and child.returncode == machine.TOO_LARGE:
            raise ConflictError("KERNEL_TOO_LARGE", f"the {family} kernel of this model: {words.decode().strip()}")
        if child.returncode:
            raise StorageError("STATE_INVALID", f"the compiler ended with {child.returncode}: {words.decode()[-500:]}")


def key(family: str, plan: Plan | None = None) -> str:
    """Name of a kernel here; `compiled` takes it in place of family and plan, without hashing the plan each time."""
    return family if plan is None else f"{family}-jit-{machine.signature(plan)[:32]}"


def _load(path: Path) -> Step | None:
    """The kernel of a file, None when there is none; a torn one is removed."""
    try:
        found = machine.load(path)
        os.utime(path)
    except FileNotFoundError:
        return None
    except StorageError:
        path.unlink(missing_ok=True)
        return None
    return found


def _sweep(folder: Path) -> None:
    """Keeps the folder within its bounds; what is loaded stays loaded."""
    about = []
    for path in folder.glob("*.kernel"):
        try:
            place = path.stat()
        except FileNotFoundError:
            continue
        about.append((place.st_mtime_ns, place.st_size, path))
    total = 0
    for at, (_, size, path) in enumerate(sorted(about, key=lambda entry: entry[0], reverse=True)):
        total += size
        if at >= FILES_MAX or total > FOLDER_BYTES_MAX:
            path.unlink(missing_ok=True)


_compiler = _Compiler()
atexit.register(_compiler.stop)


def request(family: str, folder: Path, plan: Plan | None = None) -> None:
    """Has a kernel compiled beside the caller; a second request, or one nobody could serve, changes nothing."""
    linked = aot.path(folder).exists()
    if plan is not None and (linked or not _installed("llvmlite")):
        return
    if plan is None and not linked and not _installed("numba"):
        return
    _compiler.request(family, folder, plan)


def compiled(family: str, plan: Plan | None = None) -> Step | None:
    """The compiled kernel of a family, or of a plan's signature, once it is ready."""
    return _compiler.ready(family, plan)


def wait(timeout_s: float) -> None:
    """Waits for what was requested; for tests and benches."""
    _compiler.wait(timeout_s)


def compile_now(family: str, cache_dir: Path | None = None, plan: Plan | None = None) -> Step:
    """The compiled kernel of a family, or of a plan's signature, compiled on the spot if need be.

    Raises:
        StorageError: STATE_INVALID when there is no private folder to keep it in.
        ConflictError: EXTRA_MISSING when numba is not installed, KERNEL_TOO_LARGE when the generic kernel serves the
            model better.
    """
    ready = _compiler.ready(family, plan)
    if ready is not None:
        return ready
    folder = cache_folder(cache_dir)
    if folder is None:
        message = f"no private, writable folder for compiled kernels (tried {cache_dir or 'the defaults'})"
        raise StorageError("STATE_INVALID", message, hint="give a folder that this user owns with mode 0700")
    linked = plan is None and aot.path(folder).exists()
    if not linked and not _installed("numba" if plan is None else "llvmlite"):
        message = "compiled kernels need numba, of the extra hybridtwin[edge]"
        raise ConflictError("EXTRA_MISSING", message, extra="edge")
    return _compiler.obtain(family, folder, plan)


def warm(cache_dir: Path | None = None) -> tuple[str, ...]:
    """Compiles every generic kernel into the cache folder; the names of those ready.

    Raises:
        StorageError: STATE_INVALID when there is no private folder to keep them in.
        ConflictError: EXTRA_MISSING when numba is not installed.
    """
    with ThreadPoolExecutor(len(FAMILIES)) as pool:
        list(pool.map(lambda family: compile_now(family, cache_dir), FAMILIES))
    return FAMILIES


def link(cache_dir: Path | None = None) -> Path:
    """Compiles every generic kernel and links them into one library, see `aot`; its path.

    Raises:
        StorageError, ConflictError: as `warm`.
        ConflictError: LINKER_MISSING when there is neither a compiler nor a linker.
    """
    warm(cache_dir)
    folder = cache_folder(cache_dir)
    if folder is None:
        raise StorageError("STATE_INVALID", f"the folder {cache_dir} is no longer private")
    files = {}
    for family in FAMILIES:
        path = folder / machine.file_name(family)
        if not path.exists():
            _compiler.compile(family, path)
        files[family] = path
    return aot.build(folder, files)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
