"""Runs `twinctl` by `python -m twinctl` and as the installed command; says which extra is missing."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Entry point of the installed command."""
    if importlib.util.find_spec("httpx") is None:
        sys.stderr.write("error: EXTRA_MISSING twinctl needs httpx\nhint: install hybridtwin[ctl]\n")
        sys.exit(1)
    from twinctl.cli import main as run  # noqa: PLC0415 - after the check above

    run()


if __name__ == "__main__":
    main()
