"""Log lines: one per line, whatever libraries put into them."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from schemas.telemetry import logs

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
