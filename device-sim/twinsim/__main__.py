"""Entry of `twinsim`: sets up logs on stderr and runs a command to its end."""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

import structlog

from twinmodel.process import end
from twinsim.cli import cli


def main() -> NoReturn:
    """Runs the command line; exits with the code of its outcome."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    end(lambda: cli(prog_name="twinsim"), extra="sim")


if __name__ == "__main__":
    main()
