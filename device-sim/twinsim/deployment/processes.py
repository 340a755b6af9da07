"""The other programs of the project as child processes: started, watched, ended, their words kept in files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinmodel.errors import ConflictError, Exit, UnreachableError

STOP_S = 20.0
POLL_S = 0.05


class Program:
    """One running child; its stdout and stderr go to `logs/NAME.log`."""

    def __init__(self, name: str, arguments: Sequence[str], logs: Path, *, ready: Path | None = None) -> None:
        """Starts it in a process group of its own, so that Ctrl-C reaches only its parent."""
        self.name = name
        self.arguments = tuple(arguments)
        self.ready = ready
        self.log = logs / f"{name}.log"
        if ready is not None:
            ready.unlink(missing_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as sink:
            self._child = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                command(arguments),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def wait_ready(self, timeout_s: float) -> dict[str, Any]:
        """Waits for its ready file and returns what stands in it; raises UnreachableError with its last words."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.ready is not None and self.ready.exists():
                found: dict[str, Any] = json.loads(self.ready.read_text())
                return found
            if not self.running:
                break
            time.sleep(POLL_S)
        state = f"ended with {self._child.returncode}" if not self.running else f"is not ready after {timeout_s:g} s"
        raise UnreachableError(
            "COORDINATOR_UNREACHABLE", f"{self.name} {state}: {self.last_words()}", hint=f"read {self.log}"
        )

    def wait(self, timeout_s: float) -> int:
        """Waits for its end; raises ConflictError when it fails."""
        code = self._child.wait(timeout_s)
        if code != Exit.OK:
            raise ConflictError(
                "STATE_INVALID", f"{self.name} ended with {code}: {self.last_words()}", hint=f"read {self.log}"
            )
        return code

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-1000:].strip()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self.running:
            self._child.send_signal(number)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ends it with SIGTERM, and with SIGKILL when it does not listen."""
        self.signal(signal.SIGTERM)
        self.join(timeout_s)

    def join(self, timeout_s: float = STOP_S) -> None:
        """Waits for the end that was asked for."""
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self._child.kill()
        self._child.wait()


def command(arguments: Sequence[str]) -> list[str]:
    """`twinedge run ...` as a command of this very environment, whatever PATH says."""
    return [sys.executable, "-m", *arguments]


def environment() -> dict[str, str]:
    """Ours, but with compiled modules kept: without them each program compiles its libraries anew, for seconds."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(name: str, arguments: Sequence[str], logs: Path, timeout_s: float = 60.0) -> str:
    """Runs a program to its end and returns its stdout; raises ConflictError with its stderr."""
    done = subprocess.run(  # noqa: S603 - our own programs, no shell
        command(arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{name}.log").open("a") as sink:
        sink.write(done.stderr)
    if done.returncode != Exit.OK:
        raise ConflictError("STATE_INVALID", f"{name} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


@contextmanager
def ended_together(programs: list[Program]) -> Iterator[None]:
    """Ends every program of the list when the context is left, the last started first."""
    try:
        yield
    finally:
        for program in reversed(programs):
            program.signal(signal.SIGTERM)
        for program in reversed(programs):
            program.join()


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
