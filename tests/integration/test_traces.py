"""Spans of a real worker and a real api, as a collector gets them; and what happens when there is none."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from api.app import build_app
from api.settings.settings import ApiSettings
from schemas.ledger.keys import Shard, ShardKeys
from schemas.settings import SettingsError, read
from schemas.telemetry import traces
from tests.api.sources import listed
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.collector import Collector, Seen, collecting
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker

TOKEN: Final = "a-token-of-the-tests"
JANSSEN: Final = "/jans-auth/restv1/internal/stat"
SERVER, CONSUMER = 2, 5
"""Kinds of spans, as the protocol numbers them."""
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"
SOON_MS: Final = "200"
"""Between two sendings; by default it is 5 s."""
ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def test_a_worker_exports_one_span_for_each_batch_and_refusal(
    embedded: Broker, make_site: MakeSite, collector: Collector
) -> None:
    site = make_site(embedded, otlp_endpoint=collector.url, OTEL_BSP_SCHEDULE_DELAY=SOON_MS)
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(1500)
    shard = Shard(site.logins, 0)
    site.publisher.send_bad(shard, b"no JSON", "not_json")
    site.publisher.flush()
    assert site.differences() == []
    wait_until(lambda: summed(collector, "messaging.batch.message_count") == 1501, 20, "the span of every batch")
    assert {(span.service, span.kind, span.failed) for span in collector.spans} == {
        ("authtally-worker", CONSUMER, False)
    }
    assert {span.name for span in collector.spans} == {f"count {site.logins}", f"count {site.tokens}"}
    results = ("counted", "duplicates", "ignored", "dead")
    assert sum(summed(collector, f"authtally.events.{result}") for result in results) == 1501
    assert summed(collector, "authtally.events.dead") == 1
    for (topic, partition), ranges in offsets(collector).items():
        starts, ends = zip(*sorted(ranges), strict=True)
        assert (starts[0], ends[-1]) == (0, site.positions()[Shard(topic, int(partition))])
        assert starts[1:] == ends[:-1], "no batch without a span, none with two"

    # As after a failover to a replica that lacks the last writes.
    site.client.decrby(ShardKeys(PREFIX, shard).position, 10)
    site.publisher.publish(60)
    wait_until(lambda: worker.metric("authtally_refused_scripts_total", reason="behind") == 1, 20, "a refusal")
    site.wait_until_counted()
    # The end sends what is left.
    worker.stop()
    (refused,) = [span for span in collector.spans if "authtally.refused" in span.attributes]
    assert refused.attributes["authtally.refused"] == "behind"
    (line,) = worker.lines("range refused")
    assert refused.trace in line, "the line in the log can be found by the span"


def summed(collector: Collector, name: str) -> int:
    return sum(int(span.attributes.get(name, 0)) for span in collector.spans)


def offsets(collector: Collector) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """First offset and the one after the last of each span, by topic and partition."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for result in (span.attributes for span in collector.spans):
        where = str(result["messaging.destination.name"]), str(result["messaging.destination.partition.id"])
        found[where].append((int(result["authtally.offset.start"]), int(result["authtally.offset.end"])))
    return found


class TracedApi(ApiProcess):
    """Its collector is set by OpenTelemetry's own variables."""

    collector: Collector

    def environment(self) -> dict[str, str]:
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, "OTEL_BSP_SCHEDULE_DELAY": SOON_MS}
        return super().environment() | own | {"OTEL_SERVICE_NAME": "statistics of the tests"}


def test_an_api_exports_one_span_for_each_request(redis_url: str, collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps([listed(TOKEN)]))
    api = TracedApi(redis_url=redis_url, auth="static", auth_tokens_file=str(tmp_path / "tokens.json"))
    api.collector = collector
    secret = "?month=202611&note=what-nobody-should-see"
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with api:
        collector.spans.clear()
        first = api.get(JANSSEN + secret, TOKEN, parent)
        assert (first.status, first.headers["X-Request-Id"]) == (200, TRACE)
        assert api.get(JANSSEN + secret, TOKEN).status == 200, "this one lay ready"
        assert api.get(JANSSEN, "nobody-knows-it").status == 401
        assert api.get("/nowhere/what-nobody-should-see").status == 404
        wait_until(lambda: len(served(collector)) >= 4, 20, "four spans")
    spans = served(collector)
    assert [(span.name, span.attributes["http.response.status_code"]) for span in spans] == [
        (f"GET {JANSSEN}", 200),
        (f"GET {JANSSEN}", 200),
        (f"GET {JANSSEN}", 401),
        ("GET", 404),
    ]
    assert {(span.service, span.kind, span.failed) for span in spans} == {("statistics of the tests", SERVER, False)}
    assert (spans[0].trace, spans[0].parent, spans[0].attributes["authtally.request_id"]) == (TRACE, PARENT, TRACE)
    assert spans[1].parent == ""
    assert spans[1].trace != TRACE
    assert spans[0].attributes["http.route"] == JANSSEN
    for never in (b"what-nobody-should-see", TOKEN.encode(), b"nobody-knows-it"):
        assert never not in collector.raw


def served(collector: Collector) -> list[Seen]:
    return [span for span in collector.spans if "/health/" not in span.name]


def test_a_collector_that_takes_nothing_holds_nothing_up(
    embedded: Broker, make_site: MakeSite, collector: Collector
) -> None:
    collector.status = 500
    site = make_site(embedded, otlp_endpoint=collector.url, OTEL_BSP_SCHEDULE_DELAY=SOON_MS)
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        wait_until(lambda: worker.lines("traces are not sent"), 30, "the worker says so")
        collector.status = 200
        wait_until(lambda: worker.lines("traces are sent again"), 30, "and counting continues")
    assert site.differences() == []
    assert len(worker.lines("traces are not sent")) == 1, "once, not once a batch"


def test_a_collector_that_never_answers_does_not_hold_up_the_end(embedded: Broker, make_site: MakeSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site = make_site(
            embedded, otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", OTEL_BSP_SCHEDULE_DELAY=SOON_MS
        )
        worker = site.workers.start().wait_until_ready()
        site.publisher.publish(1000)
        assert site.differences() == []
        began = time.monotonic()
        worker.stop()
        assert time.monotonic() - began < 15, "its own end, and what the last spans are waited for"


@pytest.mark.parametrize(
    ("url", "words"),
    [("collector:4318", "http"), ("ftp://collector", "http"), ("http://user:secret@collector", "OTEL_EXPORTER")],
)
def test_a_wrong_endpoint_is_a_fault_that_names_the_setting(url: str, words: str) -> None:
    with pytest.raises(SettingsError) as error:
        read(ApiSettings, auth=("none",), otlp_endpoint=url)
    (fault,) = error.value.errors
    assert fault.startswith("AUTHTALLY_OTLP_ENDPOINT: ")
    assert words in fault
    assert "secret" not in fault


@pytest.mark.parametrize(
    ("setting", "environment", "wanted"),
    [
        ("", {}, False),
        ("http://collector:4318", {}, True),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ("http://collector:4318", {"OTEL_SDK_DISABLED": "true"}, False),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_traces_are_wanted_by_our_setting_or_the_standard_ones(
    monkeypatch: pytest.MonkeyPatch, setting: str, environment: dict[str, str], wanted: bool
) -> None:
    for name in (*traces.STANDARD, traces.DISABLED):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert traces.is_enabled(setting) is wanted
    app = build_app(read(ApiSettings, auth=("none",), otlp_endpoint=setting))
    assert len(app.middlewares) == wanted, "no middleware where there is nothing to export"


def test_without_a_collector_the_trace_libraries_are_not_loaded(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "import aggregator.app, api.app\n"
        "from api.settings.settings import ApiSettings\n"
        "from schemas.telemetry import traces\n"
        "api.app.build_app(ApiSettings(auth=('none',)))\n"
        "assert traces.open_traces('', 'api').tracer is traces.NO_TRACES\n"
        "assert 'schemas.telemetry.otlp' not in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
