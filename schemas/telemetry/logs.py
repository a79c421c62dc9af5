"""Log lines of both services on stderr: a fixed phrase, then key=value, or the same as one JSON object.

One line per state change, none per record, and never a user id.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final, Literal

import structlog
from opentelemetry import trace

from schemas.telemetry.repeats import RepeatFilter

TRACEBACK: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Without the local variables of each frame, which may contain tokens, users and keys."""

NOISY_LOGGERS: Final = ("aiokafka",)
"""Libraries whose debug lines contain record values, and so user ids, and whose equal lines are limited."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


_TERMINAL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_FRAME: Final = re.compile(r"[\u2500-\u257f]")
_SERVICE: Final = re.compile(r"\[\^-*(.+?)\]: (.*)", re.DOTALL)


LogFormat = Literal["text", "json"]


def configure(level: Literal["debug", "info", "warning", "error"], log_format: LogFormat) -> None:
    """Configure the whole process, log lines of libraries included. A second call replaces the first."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace_id,
        _plain_framework_text,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.ExceptionRenderer(TRACEBACK), structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [
            _escape_line_breaks,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatFilter(NOISY_LOGGERS))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _add_trace_id(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"] = trace.format_trace_id(context.trace_id)
    return line


def _plain_framework_text(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Make a field of Faust's `[^---Fetcher]: Stopping...`; drop terminal escapes and the frames of its tables."""
    text = line["event"]
    if not isinstance(text, str):
        return line
    text = _TERMINAL.sub("", text)
    if _FRAME.search(text):
        text = " ".join(_FRAME.sub(" ", text).split())
    if found := _SERVICE.match(text):
        line["service"], text = found[1], found[2]
    line["event"] = text
    return line


def _escape_line_breaks(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Libraries log text from outside; a line break in it must not look like a new log line."""
    line["event"] = _CONTROL.sub(lambda found: repr(found[0])[1:-1], str(line["event"]))
    return line
