"""What the worker of one operation is given: the question, a way to tell progress, and a child for heavy sums."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import msgpack

from twincloud.operations.frames import read_frame, write_frame
from twincloud.storage.contract import Store
from twincloud.storage.records_operations import Failure, Json, Operation
from twinmodel.errors import REASONS, ConflictError, TwinError

Work = Callable[["Task"], Json]
"""Does operations of one kind: runs in a thread, reads the store, and gives the answer. Raises TwinError."""

PYTHON_FLAGS = ("-I",)


class Cancelled(Exception):  # noqa: N818 - no error: somebody wanted it, or another worker has taken over
    """The operation is not to be worked on any more."""


class Task:
    """One operation as its worker sees it; `stop` may come from another thread.

    Args:
        operation: what is asked.
        store: where facts are read.
        cache_dir: folder of compiled kernels, None for the default one.
    """

    def __init__(self, operation: Operation, store: Store, *, cache_dir: Path | None = None) -> None:
        self.operation = operation
        self.store = store
        self.cache_dir = cache_dir
        self.share = 0.0
        self._stopped = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def request(self) -> Json:
        """The question."""
        return self.operation.request

    @property
    def stopped(self) -> bool:
        """Whether it is not to be worked on any more."""
        return self._stopped.is_set()

    def progress(self, share: float) -> None:
        """Says how much is done, 0 to 1; raises `Cancelled` when the work shall end."""
        self.share = share
        if self.stopped:
            raise Cancelled

    def stop(self) -> None:
        """Ends the work: its child is killed, its next `progress` raises."""
        self._stopped.set()
        with self._lock:
            if self._child is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._child.kill()

    def compute(
        self,
        module: str,
        messages: Iterable[Mapping[str, Any]],
        *,
        first_share: float = 0.0,
    ) -> Json:
        """Runs `python -m module` on a stream of messages, away from the threads that serve people.

        Messages and answers are msgpack; nothing that could run code crosses the pipe. The child answers each message
        once; its last answer is the result.

        Args:
            module: of this program, ends with `serve(...)` of `operations.child`.
            messages: made one by one while the child works, so that neither side holds all of them.
            first_share: progress so far.

        Raises:
            TwinError: what the child raised; INTERNAL when it died.
            Cancelled: see `progress`.
        """
        environ = {name: os.environ[name] for name in _ENVIRON if name in os.environ}
        if self.cache_dir is not None:
            environ["NUMBA_CACHE_DIR"] = str(self.cache_dir)
        command = [sys.executable, *PYTHON_FLAGS, "-m", module]
        with subprocess.Popen(  # noqa: S603 this very interpreter and a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
        ) as child:
            with self._lock:
                self._child = child
            try:
                if self.stopped:
                    raise Cancelled
                return self._talk(child, module, messages, first_share)
            finally:
                with self._lock:
                    self._child = None
                if child.poll() is None:
                    child.kill()

    def _talk(
        self, child: subprocess.Popen[bytes], module: str, messages: Iterable[Mapping[str, Any]], first: float
    ) -> Json:
        assert child.stdin is not None
        assert child.stdout is not None
        for message in messages:
            self.progress(max(first, float(message.get("share", first))))
            answer = self._exchange(child.stdin, child.stdout, message)
            if answer is None:
                break
        else:
            answer = self._exchange(child.stdin, child.stdout, {"end": True})
        self.progress(self.share)
        if answer is None:
            code = child.wait()
            raise ConflictError("OPERATION_LOST", f"the process that computes {module} died with {code}")
        _raise_failure(answer)
        return answer

    def _exchange(self, stdin: IO[bytes], stdout: IO[bytes], message: Mapping[str, Any]) -> Json | None:
        """The answer to a message; None when the child is gone."""
        try:
            write_frame(stdin, msgpack.packb(dict(message), use_bin_type=True))
            raw = read_frame(stdout)
        except BrokenPipeError:
            return None
        if raw is None:
            return None
        answer: dict[str, Any] = msgpack.unpackb(raw)
        _raise_failure(answer)
        return answer


def failure_of(error: TwinError) -> Failure:
    """What is kept of an error."""
    return Failure(error.reason, error.message, error.hint)


def _raise_failure(answer: Json) -> None:
    failed = answer.get("failed")
    if failed is not None:
        reason = failed["reason"] if failed["reason"] in REASONS else "INTERNAL"
        raise ConflictError(reason, failed["detail"], hint=failed["hint"])


_ENVIRON = ("PATH", "HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_INTEL_SVML", "TMPDIR", "LANG")
