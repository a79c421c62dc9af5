"""Spans of both services, sent by OTLP over HTTP. The exporting libraries are imported only if traces are enabled.

Span names and attributes contain no text from a caller, no user and no token.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, NamedTuple

import structlog
from opentelemetry import trace

from schemas.connections.urls import split_url

log = structlog.get_logger(__name__)

STANDARD: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables for the endpoint, without our prefix. The exporter reads them and its other settings
(headers, certificates, sampler, resource attributes) from the environment."""
DISABLED: Final = "OTEL_SDK_DISABLED"
PATH: Final = "/v1/traces"
EXTRA: Final = "pip install 'authtally[traces]'"

NO_TRACES: Final[trace.Tracer] = trace.NoOpTracer()


class Traces(NamedTuple):
    """A tracer that sends spans in the background. Never raises, never blocks, drops spans that it cannot send."""

    tracer: trace.Tracer
    close: Callable[[float], None]
    """Sends the remaining spans, for at most this many seconds. Blocks."""


def is_installed() -> bool:
    """Whether the libraries of the extra `traces` are installed."""
    try:
        return all(find_spec(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


def endpoint(text: str) -> str:
    """Validate OTLP_ENDPOINT. Raises ValueError."""
    if not text:
        return text
    parts = split_url(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if parts.username or parts.password:
        raise ValueError("must not contain a password; use OTEL_EXPORTER_OTLP_HEADERS")
    if not is_installed():
        raise ValueError(f"needs an optional dependency: {EXTRA}")
    return text


def is_enabled(configured: str) -> bool:
    """Whether traces are enabled, by the setting `configured` or by OpenTelemetry's own variables."""
    if os.environ.get(DISABLED, "").strip().lower() == "true":
        return False
    if configured:
        return True
    named = next((name for name in STANDARD if os.environ.get(name)), None)
    if named is not None and not is_installed():
        # The variable may be meant for other programs on the machine, so this is no error.
        log.warning("no traces are sent", setting=named, needs=EXTRA)
        return False
    return named is not None


def open_traces(configured: str, service: str) -> Traces:
    """The tracer of `service`; starts its sending thread if traces are enabled."""
    if not is_enabled(configured):
        return Traces(NO_TRACES, lambda _: None)
    from schemas.telemetry import otlp

    url = configured.rstrip("/")
    return Traces(
        *otlp.open_tracer(f"authtally-{service}", None if not url else url if url.endswith(PATH) else url + PATH)
    )
