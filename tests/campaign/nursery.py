"""Starts programs as processes of their own in milliseconds: a process that has imported them all forks each of them.

A start from nothing costs a second of CPU for imports, which neither thousands of kills nor dozens of commands can
afford. A child is a process like any other: own session, own files, own network when told, SIGKILL ends it whatever it
does.

    Nursery.start("feeder", words) ──stdin──▶ this module as a process ──fork──▶ child
    Child.running, .code           ◀─stdout── started, ended
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twinsim.deployment.processes import environment

START_S, STOP_S = 120.0, 20.0
CLONE_NEWNET, PR_SET_PDEATHSIG = 0x40000000, 1
IMPORTED = (
    "tests.campaign.feeder", "twincloud.cli", "twincloud.service", "twincloud.identity.tokens", "twincloud.doctor",
    "twinedge.cli", "twinedge.enrol", "uvicorn.protocols.http.h11_impl", "uvicorn.lifespan.on",
)  # fmt: skip


class Child:
    """One forked process.

    Attributes:
        code: exit code once it has ended, negative for a signal, None while it runs.
    """

    def __init__(self, nursery: Nursery, number: int, log: Path) -> None:
        self._nursery = nursery
        self._number = number
        self.log = log
        self.pid = 0
        self.code: int | None = None
        self.started, self.ended = threading.Event(), threading.Event()

    @property
    def running(self) -> bool:
        return not self.ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        """The parent sends it, as only that knows that the process id is still the child's."""
        self._nursery.ask({"signal": self._number, "number": int(number)})

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.signal(signal.SIGKILL)
        if not self.ended.wait(STOP_S):
            raise TimeoutError(f"process {self.pid} survives SIGKILL")

    def halt(self, *, idle: bool = False) -> None:
        """No instruction of it runs any more; what it has asked of the kernel goes on, or is waited for when `idle`.

        A machine without power runs nothing. A file system that is shut down under a running program lets an fsync that
        was on its way return well now and then, which no power cut does: of 100 cuts 5 showed that.
        """
        self.signal(signal.SIGSTOP)
        end_s = time.monotonic() + STOP_S
        calm = "T" if idle else "TD"
        while not all(state in calm for state in thread_states(self.pid)) and time.monotonic() < end_s:
            pass

    def stop(self, timeout_s: float = STOP_S) -> None:
        """SIGTERM, then SIGKILL for one that does not listen."""
        self.signal(signal.SIGTERM)
        if not self.ended.wait(timeout_s):
            self.kill()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-1500:].strip() if self.log.exists() else ""


class Nursery:
    """The process that forks; ends all of its children when it is closed, or when this process dies."""

    def __init__(self, logs: Path, imported: Sequence[str] = IMPORTED) -> None:
        """Starts it; `imported` are the modules its children need not import."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._made = 0
        with (logs / "nursery.log").open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.campaign.nursery", *imported],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
                env=environment() | {"OPENBLAS_NUM_THREADS": "1"},
            )
        self._reader = threading.Thread(target=self._read, name="nursery", daemon=True)
        self._reader.start()

    def start(
        self, program: str, words: Sequence[str], name: str, namespace: str | None = None, env: Mapping[str, str] = {}
    ) -> Child:
        """Forks a program; stderr goes to NAME.log, stdout to NAME.out.

        Args:
            program: a key of PROGRAMS.
            words: its arguments.
            name: of its files among the logs.
            namespace: path of the network namespace it lives in, None for ours.
            env: what it finds in its environment beside ours.
        """
        with self._lock:
            self._made += 1
            child = self._children[self._made] = Child(self, self._made, self._logs / f"{name}.log")
            number = self._made
        out = self._logs / f"{name}.out"
        asked = {"start": number, "program": program, "words": list(words), "log": str(child.log), "out": str(out)}
        self.ask(asked | {"namespace": namespace, "env": dict(env)})
        if not child.started.wait(START_S):
            raise TimeoutError(f"{name} does not start")
        return child

    def run(self, program: str, words: Sequence[str], name: str, namespace: str | None = None) -> str:
        """Runs a program to its end and returns its stdout."""
        child = self.start(program, words, name, namespace)
        if not child.ended.wait(START_S) or child.code != 0:
            raise RuntimeError(f"{name} ended with {child.code}: {child.last_words()}")
        return (self._logs / f"{name}.out").read_text()

    def ask(self, what: dict[str, object]) -> None:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            child = self._children[told["child"]]
            if "pid" in told:
                child.pid = told["pid"]
                child.started.set()
            else:
                child.code = told["code"]
                child.ended.set()
                del self._children[told["child"]]
        for child in self._children.values():
            child.ended.set()


def thread_states(pid: int) -> list[str]:
    """The state letter of each thread of a process, none when it is gone."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            found.append(path.read_text().rpartition(")")[2].split()[0])
    return found


# ---- the process that forks ------------------------------------------------------------------------------------------


def serve() -> None:
    """Reads orders from stdin until its end; has no threads, so that a fork copies all there is."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "an import has started a thread"
    gc.collect()
    gc.freeze()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # children inherit it: one may be told before it listens
    children: dict[int, int] = {}
    rest = b""
    over = False
    while not over:
        ready, _, _ = select.select([0, read_end], [], [])
        if read_end in ready:
            os.read(read_end, 4096)
            _reap(children)
        if 0 in ready:
            read = os.read(0, 1 << 16)
            over = not read
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                _obey(json.loads(line), children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    end_s = time.monotonic() + STOP_S
    while children and time.monotonic() < end_s:
        _reap(children)
        time.sleep(0.01)


def _obey(order: dict, children: dict[int, int]) -> None:
    if "signal" in order:
        for pid, number in children.items():
            if number == order["signal"]:
                os.kill(pid, order["number"])
        return
    pid = os.fork()
    if pid == 0:
        _become(order)
    children[pid] = order["start"]
    _tell({"child": order["start"], "pid": pid})


def _reap(children: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell({"child": children.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def _tell(what: dict[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _become(order: dict) -> None:
    """The child: its own session, files, network, then the program; never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for handle, number in ((nothing, 0), (out, 1), (log, 2)):
            os.dup2(handle, number)
        os.closerange(3, 64)
        os.environ.update(order["env"])
        if order["namespace"] is not None:
            with Path(order["namespace"]).open("rb") as place:
                failed = libc.setns(place.fileno(), CLONE_NEWNET)
            assert not failed, f"not let into {order['namespace']}: {os.strerror(ctypes.get_errno())}"
        code = PROGRAMS[order["program"]](order["words"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - the child must not go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _feeder(words: list[str]) -> int:
    return importlib.import_module("tests.campaign.feeder").main(words)


def _twincloud(words: list[str]) -> int:
    return importlib.import_module("twincloud.__main__").run(words)


def _other(program: str) -> Callable[[list[str]], int]:
    def run(words: list[str]) -> int:
        sys.argv = [program, *words]
        importlib.import_module(f"{program}.__main__").main()
        return 0

    return run


PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "feeder": _feeder, "twincloud": _twincloud, **{name: _other(name) for name in ("twinedge", "twinctl", "twinsim")}
}  # fmt: skip

if __name__ == "__main__":
    serve()
