"""Writes the object that joins the kernels of a library: plain names of their entries, an end for what is never called.

Run as a process of its own: `python -m twinmodel.kernel.stubs OBJECT`, with lines `FAMILY SYMBOL` on standard input.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from twinmodel.kernel.generate.ir import compile_ir
from twinmodel.kernel.machine import UNREACHED


def print_stubs(entries: Mapping[str, str]) -> str:
    """LLVM IR: `twin_FAMILY` calls the family's symbol; names numba's code refers to abort when reached."""
    lines = ["declare void @abort()"]
    for family, symbol in entries.items():
        lines += [
            f'declare void @"{symbol}"(ptr, ptr)',
            f"define void @twin_{family}(ptr %places, ptr %sizes) {{",
            f'  call void @"{symbol}"(ptr %places, ptr %sizes)',
            "  ret void",
            "}",
        ]
    # Hidden, so that Python's own functions of these names are left alone.
    for name in UNREACHED:
        lines += [f"define hidden void @{name}() {{", "  call void @abort()", "  unreachable", "}"]
    return "\n".join([*lines, ""])


def main() -> None:
    """Compiles the stubs of the entries on standard input."""
    entries = dict(line.split(" ", 1) for line in sys.stdin.read().splitlines())
    Path(sys.argv[1]).write_bytes(compile_ir(print_stubs(entries)))


if __name__ == "__main__":
    main()
