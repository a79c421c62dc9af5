"""Spans of both services: sent by OTLP over HTTP where a collector is named; where none is, nothing is even loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

import structlog

log = structlog.get_logger(__name__)

STANDARD: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own names for the endpoint, which need no prefix of ours. The exporter reads them, and its other
settings (headers, certificates, sampler, resource attributes), by itself."""
DISABLED: Final = "OTEL_SDK_DISABLED"
PATH: Final = "/v1/traces"
EXTRA: Final = "pip install 'authtally[traces]'"

Value = str | int | bool
Kind = Literal["consumer", "server"]


class Span(Protocol):
    """What can be told of work under way. Names and values are ours: nothing that a caller sent, no user, no token."""

    def set_attribute(self, name: str, value: Value) -> None: ...

    def add(self, name: str, amount: int) -> None:
        """To what was added under this name before."""

    def fail(self) -> None:
        """The work did not do what it was for."""


class Tracer(Protocol):
    """Makes spans, and sends them in the background. Never raises, never waits, drops what it cannot send."""

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        """`headers` may carry on somebody else's trace (W3C `traceparent`)."""

    def close(self, timeout_s: float) -> None:
        """Send what is left, for so long at most. Blocks."""


class _NoTraces:
    """Both a span and what makes it, where nobody wants one."""

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
    """Whether the libraries of the extra `traces` are there."""
    try:
        return all(find_spec(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


def endpoint(text: str) -> str:
    """Checks the setting of that name. Raises ValueError."""
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if parts.username or parts.password:
        raise ValueError("must not hold a password; OTEL_EXPORTER_OTLP_HEADERS is for that")
    if not is_installed():
        raise ValueError(f"needs an optional part: {EXTRA}")
    return text


def is_enabled(configured: str) -> bool:
    """Whether spans are to be made: `configured` is the setting, OpenTelemetry's own variables do as well."""
    if os.environ.get(DISABLED, "").strip().lower() == "true":
        return False
    if configured:
        return True
    named = next((name for name in STANDARD if os.environ.get(name)), None)
    if named is not None and not is_installed():
        # Whoever set it may have set it for everything on the machine.
        log.warning("no traces are sent", setting=named, needs=EXTRA)
        return False
    return named is not None


def open_tracer(configured: str, service: str) -> Tracer:
    """Starts a thread that sends, where spans are wanted."""
    if not is_enabled(configured):
        return NO_TRACES
    from schemas.telemetry.otlp import Otlp

    url = configured.rstrip("/")
    return Otlp(f"authtally-{service}", None if not url else url if url.endswith(PATH) else url + PATH)
