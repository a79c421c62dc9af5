"""OpenTelemetry's SDK and exporter. Only `traces.open_traces` imports this module, and only if traces are enabled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from schemas.telemetry.build import version

log = structlog.get_logger(__name__)

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


def open_tracer(service: str, url: str | None) -> tuple[trace.Tracer, Callable[[float], None]]:
    """A tracer that sends to `url` (None: OpenTelemetry's environment variables), and its `close(timeout_s)`."""
    # The library logs every rejected batch; StateLoggingExporter logs once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    about = Resource({SERVICE_NAME: service, SERVICE_VERSION: version()}).merge(OTELResourceDetector().detect())
    # `close` sends the remaining spans in bounded time; the library's exit handler has no bound.
    provider = TracerProvider(resource=about, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(StateLoggingExporter(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S)))
    )

    def close(timeout_s: float) -> None:
        # In a thread: the exporter may wait for a dead collector without a limit.
        closing = threading.Thread(target=provider.shutdown, name="closes-traces", daemon=True)
        closing.start()
        closing.join(timeout_s)

    return provider.get_tracer("authtally", version()), close
