"""Spans of both services, sent by OTLP over HTTP. Without a collector the libraries are not even imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Final, Literal, Protocol

import structlog

from schemas.connections.urls import split_url

log = structlog.get_logger(__name__)

STANDARD: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables for the endpoint, without our prefix. The exporter reads them and its other settings
(headers, certificates, sampler, resource attributes) from the environment."""
DISABLED: Final = "OTEL_SDK_DISABLED"
PATH: Final = "/v1/traces"
EXTRA: Final = "pip install 'authtally[traces]'"

Value = str | int | bool
Kind = Literal["consumer", "server"]


class Span(Protocol):
    """A span of work under way. Names and values are ours: no text from a caller, no user, no token."""

    def set_attribute(self, name: str, value: Value) -> None: ...

    def add(self, name: str, amount: int) -> None:
        """Add to the attribute's sum."""

    def fail(self) -> None:
        """Mark the work as failed."""


class Tracer(Protocol):
    """Creates spans and sends them in the background. Never raises, never blocks, drops spans that it cannot send."""

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        """`headers` may continue the caller's trace (W3C `traceparent`)."""

    def close(self, timeout_s: float) -> None:
        """Send the remaining spans, for at most `timeout_s`. Blocks."""


class _NoTraces:
    """Span and tracer without effect, for disabled traces."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None: ...

    def set_attribute(self, name: str, value: Value) -> None: ...

    def add(self, name: str, amount: int) -> None: ...

    def fail(self) -> None: ...

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        return self

    def close(self, timeout_s: float) -> None: ...


NO_TRACES: Final[Tracer] = _NoTraces()


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


def open_tracer(configured: str, service: str) -> Tracer:
    """The tracer; starts its sending thread if traces are enabled."""
    if not is_enabled(configured):
        return NO_TRACES
    from schemas.telemetry.otlp import Otlp

    url = configured.rstrip("/")
    return Otlp(f"authtally-{service}", None if not url else url if url.endswith(PATH) else url + PATH)
