"""Log lines: one per line, whatever libraries put into them."""

from __future__ import annotations

import json
import logging
from typing import NamedTuple

import pytest
import structlog

from schemas.telemetry import logs
from schemas.telemetry.repeats import MAX_LINES, RepeatFilter

FORGED = "from 1.2.3.4\n2026-11-20T10:00:00Z [info     ] nothing happened\r\x1b[2J\u2028end"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_others_sent_stays_within_its_line(form: logs.LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", form)
    logging.getLogger("library").warning("connection %s", FORGED)
    structlog.get_logger("ours").info("refused", topic=FORGED)
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3
    assert not any(character in line for line in lines for character in "\r\x1b\u2028")
    assert all("nothing happened" in line for line in lines[:2])


BANNERS = [
    ("[^---Agent: app.count]: Stopping...", {"service": "Agent: app.count", "event": "Stopping..."}),
    ("[^Runner]: Signal received: 15 (15)", {"service": "Runner", "event": "Signal received: 15 (15)"}),
    ("\x1b[31mred\x1b[0m \x1b[?25hend", {"event": "red end"}),
    ("\n┌Topics┐\n│ auth.logins │ {0-3} │\n└──┘", {"event": "Topics auth.logins {0-3}"}),
    ("[not a service]: text", {"event": "[not a service]: text"}),
]


@pytest.mark.parametrize(("text", "fields"), BANNERS)
def test_texts_of_the_framework_become_a_phrase_and_fields(
    text: str, fields: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "json")
    logging.getLogger("faust.worker").info(text)
    line = json.loads(capsys.readouterr().err)
    assert {name: line[name] for name in ("service", "event") if name in line} == fields


def test_debug_lines_of_the_kafka_client_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "text")
    logging.getLogger("aiokafka.producer.producer").debug("Sending value=%s", "alice")
    logging.getLogger("aggregator").debug("seen")
    result = capsys.readouterr().err
    assert "alice" not in result
    assert "seen" in result


EXPIRED = "Heartbeat session expired - marking coordinator dead"


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


def test_equal_lines_of_the_kafka_client_are_written_once_and_then_counted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    for number in range(1500):
        coordinator.error("%s", EXPIRED)
        if number == 50:
            coordinator.error("Heartbeat failed: %r", KeyError(4))
            coordinator.warning(EXPIRED)
            structlog.get_logger("ours").info("range failed")
            structlog.get_logger("ours").info("range failed")
    written = lines_of(capsys)
    assert [line.partition(" such lines in ")[0] for line in written] == [
        EXPIRED,
        f"{EXPIRED} (10",
        "Heartbeat failed: KeyError(4)",
        # Another level is another line.
        EXPIRED,
        # Our own lines are one per change of state.
        *["range failed"] * 2,
        f"{EXPIRED} (100",
        f"{EXPIRED} (1000",
    ]


class Series(NamedTuple):
    times: list[float]
    written: dict[float, str]
    why: str


SERIES = [
    Series([0, 1, 2], {0: ""}, "repeats within a minute"),
    Series(
        [0, 30, 61, 119, 122], {0: "", 61: " (3 such lines in 61 s)", 122: " (5 such lines in 122 s)"}, "it continues"
    ),
    Series([0, 1, 61, 62], {0: "", 61: ""}, "a minute without one ends the series"),
    Series([100, 20, 21], {100: "", 20: ""}, "the clock is set back"),
]


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.why)
def test_a_line_that_continues_is_written_once_a_minute(series: Series, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logger = logging.getLogger("aiokafka.client")
    for at in series.times:
        record = logger.makeRecord(logger.name, logging.ERROR, "", 0, "Unable connect to %s", ("node 1",), None)
        record.created = at
        logger.handle(record)
    assert lines_of(capsys) == [f"Unable connect to node 1{end}" for end in series.written.values()], series.why


def test_many_different_lines_take_bounded_memory(capsys: pytest.CaptureFixture[str]) -> None:
    limiter = RepeatFilter(["aiokafka"])

    def line(number: int) -> logging.LogRecord:
        return logging.makeLogRecord(
            {"name": "aiokafka.conn", "levelno": logging.WARNING, "levelname": "WARNING", "msg": f"line {number}"}
        )

    for number in range(10 * MAX_LINES):
        assert limiter.filter(line(number))
    assert len(limiter._lines) == MAX_LINES
    assert not limiter.filter(line(number))


def test_steps_of_the_kafka_client_are_all_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Each time that a worker joins its group is another event, though its line is the same."""
    logs.configure("info", "json")
    for _ in range(3):
        logging.getLogger("aiokafka.consumer.group_coordinator").info("(Re-)joining group authtally")
    assert lines_of(capsys) == ["(Re-)joining group authtally"] * 3
