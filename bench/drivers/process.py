"""Processes of a bench, and what they cost: processor time and memory of the process alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
