"""Logging, configured once per program: every record, kopf's and aiohttp's too, leaves in one shape."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

FORMATS = ("auto", "json", "text")
LEVELS = ("debug", "info", "warning", "error")

# Whoever says one line per object and event at INFO; 5,000 nodes make 5,000 lines of it at every start.
_QUIETER = {
    "kopf.objects": logging.WARNING,
    "kopf.activities": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
}

EventDict = MutableMapping[str, Any]


def configure(log_format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's records to stderr, as JSON lines or as text for a terminal."""
    target = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not target.isatty())
    # No ExtraAdder: kopf's records carry its whole settings object in `extra`.
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _install(target, _formatter(shared, as_json=as_json, colors=target.isatty()), level)


def _formatter(shared: list[structlog.typing.Processor], *, as_json: bool, colors: bool) -> logging.Formatter:
    last: list[structlog.typing.Processor]
    if as_json:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=28)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _object_of_kopf],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _install(target: TextIO, formatter: logging.Formatter, level: str) -> None:
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIETER.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.captureWarnings(True)


def _object_of_kopf(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Lift kind and name of kopf's `k8s_ref`, and nothing else of what it attaches."""
    reference = getattr(event.get("_record"), "k8s_ref", None)
    if isinstance(reference, Mapping):
        event["kind"] = reference.get("kind")
        event["name"] = reference.get("name")
    return event
