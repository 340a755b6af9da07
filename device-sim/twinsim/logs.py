"""Where a running simulation speaks: one line an event on stderr, the protocol libraries only their errors."""

from __future__ import annotations

import logging
import sys

import structlog


def speak_on_stderr() -> None:
    """Sets up structlog and the standard library's logging for this process."""
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
