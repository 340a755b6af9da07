"""Entry of `twinsim`: runs a command to its end and exits with the code of its outcome."""

from __future__ import annotations

from typing import NoReturn

from twinmodel.process import end
from twinsim.cli import cli


def main() -> NoReturn:
    """Runs the command line; see `twinmodel.process.end`."""
    end(lambda: cli(prog_name="twinsim"), extra="sim")


if __name__ == "__main__":
    main()
