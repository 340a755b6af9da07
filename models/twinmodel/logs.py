"""Log lines of every long-running program: key=value on a terminal, JSON otherwise, always on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

import structlog


def configure_logs(level: str = "info", *, silent: Iterable[str] = ()) -> None:
    """Sets up structlog and lets warnings of libraries through the same door.

    Tracebacks are plain: a renderer that shows local variables shows secrets with them.

    Args:
        level: lowest level of our own lines.
        silent: loggers of libraries whose troubles our own lines tell already, with names a person knows.
    """
    number = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}[level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    tail: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_drop_record, *tail], foreign_pre_chain=shared)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in silent:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _drop_record(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
