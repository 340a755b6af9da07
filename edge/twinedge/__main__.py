"""Entry of `twinedge`: runs the command line and ends with the exit code its outcome has."""

from __future__ import annotations

from typing import NoReturn

from twinmodel import process


def main() -> NoReturn:
    """Runs the command line."""
    from twinedge.cli import cli  # noqa: PLC0415 - a missing extra is told by `process.end`

    process.end(cli, extra="edge")


if __name__ == "__main__":
    main()
