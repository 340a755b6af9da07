"""Peers in C: built here by the machine's compiler, as strict as our kernels, and called in the same way."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinmodel.kernel.arena import LANES, Step
from twinmodel.kernel.compile import ARRAYS, NUMBERS
from twinmodel.kernel.generate.c import print_c
from twinmodel.kernel.generate.form import Form
from twinmodel.kernel.machine import Compiled

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-std=gnu11")
NAME = "peer"
BUILD_S = 120


def compiler() -> str | None:
    """The C compiler of this machine."""
    return shutil.which("gcc") or shutil.which("cc")


def texts(form: Form, lanes: int | None = LANES) -> dict[str, str]:
    """C of the same operations as our kernel: lanes in loops for the compiler to find, lanes in vectors.

    Args:
        form: the kernel.
        lanes: their number when the compiler shall know it, which makes both faster.
    """
    made = {}
    for kind, vectors in (("loops", False), ("vectors", True)):
        text = print_c(NAME, form, ARRAYS, NUMBERS, vectors=vectors)
        made[kind] = text if lanes is None else text.replace("sizes[7]", str(lanes))
    return made


def build(sources: Mapping[str, str], folder: Path) -> dict[str, Step]:
    """Kernels of translation units, each with one function `void peer(void **places, int64_t *sizes)`.

    Raises:
        RuntimeError: when the compiler refuses one.
    """
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda item: library(folder, *item), sources.items()))
    steps: dict[str, Step] = {}
    for name, path in zip(sources, paths, strict=True):
        loaded = ctypes.CDLL(str(path))
        steps[name] = Compiled(loaded, ctypes.cast(getattr(loaded, NAME), ctypes.c_void_p).value or 0)
    return steps


def library(folder: Path, name: str, text: str) -> Path:
    """Compiles one translation unit into a shared library."""
    source, target = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(text)
    command = [compiler() or "cc", *FLAGS, "-shared", "-fPIC", "-o", str(target), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} refuses {source.name}: {done.stderr[-500:]}")
    return target
