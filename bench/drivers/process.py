"""Processes of a bench, what they wait for, and what they cost: processor time and memory of the process alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WAIT_S = 30.0


@contextmanager
def process(*arguments: str, piped: bool = True) -> Iterator[subprocess.Popen[str]]:
    """Runs this Python with arguments until the end of the block."""
    pipe = subprocess.PIPE if piped else subprocess.DEVNULL
    running = subprocess.Popen(  # our own modules
        [sys.executable, *arguments], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def ask(running: subprocess.Popen[str]) -> str:
    """Sends an empty line and returns the line that answers."""
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("\n")
    running.stdin.flush()
    return running.stdout.readline()


def said(running: subprocess.Popen[str]) -> str:
    """The next line a process prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def until(true: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Waits until something is true; whoever does not answer yet is not.

    Raises:
        TimeoutError: it took longer.
    """
    end_s = time.monotonic() + within_s
    while True:
        with suppress(OSError):
            if true():
                return
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {within_s:g} s")
        time.sleep(0.05)


def cpu_s(pid: int) -> float:
    """Processor time of a process since its start, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Memory a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0
