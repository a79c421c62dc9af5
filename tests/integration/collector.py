"""The other party of traces: takes OTLP over HTTP as a collector does, and remembers the spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class Seen(NamedTuple):
    """One span."""

    service: str
    name: str
    kind: int
    trace: str
    parent: str
    failed: bool
    attributes: dict[str, str | int | bool]


class Collector:
    """Answers with `status`; anything but 200 takes nothing."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = "http://{}:{}".format(*server.server_address)
        self.status = 200
        self.asked = 0
        self.spans: list[Seen] = []
        self.raw = b""
        """All that came, as bytes: to look for what must not be in it."""

    def take(self, path: str, body: bytes) -> int:
        self.asked += 1
        if path != "/v1/traces":
            return 404
        if self.status == 200:
            self.raw += body
            self.spans += spans_of(ExportTraceServiceRequest.FromString(body))
        return self.status


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Seen]:
    for resource_spans in request.resource_spans:
        resource = {each.key: _value(each.value) for each in resource_spans.resource.attributes}
        for scope in resource_spans.scope_spans:
            for span in scope.spans:
                yield Seen(
                    str(resource["service.name"]),
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.parent_span_id.hex(),
                    span.status.code == 2,
                    {each.key: _value(each.value) for each in span.attributes},
                )


def _value(value: AnyValue) -> str | int | bool:
    found: str | int | bool = getattr(value, value.WhichOneof("value") or "string_value")
    return found


@contextmanager
def collecting() -> Iterator[Collector]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status = collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            content = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    collector = Collector(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
