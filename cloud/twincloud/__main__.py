"""`twincloud`: runs the command line and tells every error as cause, fix and exit code."""

from __future__ import annotations

import sys

from twinmodel.process import outcome


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; data goes to stdout, talk to stderr."""
    from twincloud.cli import root  # noqa: PLC0415 a missing extra is told by `outcome`

    return outcome(lambda: root.main(arguments, prog_name="twincloud"), extra="cloud")


if __name__ == "__main__":
    main()
