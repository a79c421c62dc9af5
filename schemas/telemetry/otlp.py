"""Spans by OpenTelemetry's own libraries.

Only schemas/telemetry/traces.py imports this module, and only if traces are enabled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.telemetry.build import version
from schemas.telemetry.traces import Kind, Span, Value

log = structlog.get_logger(__name__)

KINDS: Final = {"consumer": trace.SpanKind.CONSUMER, "server": trace.SpanKind.SERVER}
PARENT: Final = TraceContextTextMapPropagator()
EXPORT_TIMEOUT_S: Final = 5.0
"""For one batch of spans, including the exporter's retries."""


class StateLoggingExporter(SpanExporter):
    """Logs once when the collector stops accepting spans, and once when it accepts them again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._sent = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        sent = result is SpanExportResult.SUCCESS
        if sent != self._sent:
            self._sent = sent
            if sent:
                log.info("traces are sent again")
            else:
                log.warning("traces are not sent", setting="AUTHTALLY_OTLP_ENDPOINT", spans_dropped=len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Span:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._sums: dict[str, int] = {}

    def set_attribute(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def add(self, name: str, amount: int) -> None:
        self._sums[name] = self._sums.get(name, 0) + amount
        self._span.set_attribute(name, self._sums[name])

    def fail(self) -> None:
        self._span.set_status(trace.StatusCode.ERROR)


class Otlp:
    """Sends to `url`; None uses OpenTelemetry's own environment variables."""

    def __init__(self, service: str, url: str | None) -> None:
        # The library logs every rejected batch; StateLoggingExporter logs once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        about = Resource({SERVICE_NAME: service, SERVICE_VERSION: version()}).merge(OTELResourceDetector().detect())
        # `close` sends the remaining spans in bounded time; the library's exit handler has no bound.
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(StateLoggingExporter(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S)))
        )
        self._tracer = self._provider.get_tracer("authtally", version())

    @contextmanager
    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], headers: Mapping[str, str] | None = None
    ) -> Iterator[Span]:
        context = None if headers is None else PARENT.extract(headers)
        with (
            self._tracer.start_as_current_span(name, context, KINDS[kind], attributes) as span,
            # Log lines carry the trace id.
            structlog.contextvars.bound_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}"),
        ):
            yield _Span(span)

    def close(self, timeout_s: float) -> None:
        # In a thread: the exporter may wait for a dead collector without a limit.
        closing = threading.Thread(target=self._provider.shutdown, name="closes-traces", daemon=True)
        closing.start()
        closing.join(timeout_s)
