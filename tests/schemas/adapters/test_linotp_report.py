"""What rows of LinOTP's reporting table become, case by case."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import deploy
from schemas.events import OtpTokenCount
from schemas.ledger.inventory import NO_REALM
from tests.schemas.adapters.cases import AT, AT_MS, events, lines, refusal

ROW: dict[str, Any] = {
    "id": 7,
    "timestamp": "2026-01-01 00:00:00.123000",
    "event": "token_init",
    "realm": "mydefrealm",
    "parameter": "active",
    "value": "",
    "count": 4,
    "detail": "",
    "session": "",
    "description": "",
}
count = partial(
    OtpTokenCount,
    time=AT,
    realm="mydefrealm",
    event="token_init",
    status="active",
    count=4,
    id="linotp:7:2026-01-01T00:00:00.123000+00:00",
)


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (ROW, count(), "a row as it lies in the table"),
        (ROW | {"timestamp": "2026-01-01T01:00:00.123+01:00"}, count(), "an offset"),
        (ROW | {"timestamp": AT_MS}, count(), "Debezium's milliseconds"),
        (ROW | {"timestamp": AT_MS * 1000}, count(), "Debezium's microseconds"),
        (ROW | {"count": "4"}, count(), "a way out of the database that makes all text"),
        (ROW | {"count": 0}, count(count=0), "none left"),
        (ROW | {"realm": ""}, count(realm=NO_REALM), "in no realm"),
        (ROW | {"realm": "/:no realm:/"}, count(realm=NO_REALM), "LinOTP's word for it"),
        (ROW | {"id": None}, count(id=None), "without its number"),
        (ROW | {"parameter": "total users"}, count(status="total users"), "distinct users"),
        (ROW | {"parameter": "unassigned&active"}, count(status="unassigned&active"), "a pair the other way round"),
        ({"schema": {}, "payload": ROW}, count(), "Kafka Connect's JDBC source"),
        ({"payload": {"op": "c", "before": None, "after": ROW}}, count(), "Debezium"),
        ({"op": "r", "after": ROW}, count(), "Debezium without schemas"),
    ],
)
def test_rows_are_kept_as_given(record: dict[str, Any], expected: OtpTokenCount, why: str) -> None:
    assert events("linotp-report", record) == [expected], why


def test_a_deleted_row_is_of_no_concern() -> None:
    assert events("linotp-report", {"payload": {"op": "d", "before": ROW, "after": None}}) == []


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"timestamp": None}, "missing_field", "timestamp"),
        ({"timestamp": "yesterday"}, "wrong_type", "timestamp"),
        ({"timestamp": "1999-12-31 23:59:59"}, "impossible_time", "before 2000"),
        ({"timestamp": 2**63}, "impossible_time", "ahead"),
        ({"event": ""}, "missing_field", "event"),
        ({"parameter": None}, "missing_field", "parameter"),
        ({"parameter": "disabled"}, "wrong_type", "status"),
        ({"count": None}, "missing_field", "count"),
        ({"count": "many"}, "wrong_type", "count"),
        ({"count": -1}, "wrong_type", "count"),
        ({"count": 2**32}, "wrong_type", "count"),
        ({"realm": "ü" * 129}, "too_long", "realm"),
    ],
)
def test_bad_rows_are_refused_by_field(change: dict[str, Any], reason: str, said: str) -> None:
    found, detail = refusal("linotp-report", ROW | change)
    assert found == reason
    assert said in detail


def test_the_query_makes_what_the_adapter_reads() -> None:
    query = Path(deploy.__file__).parent / "publishers" / "linotp" / "reporting.sqlite.sql"
    with closing(sqlite3.connect(":memory:")) as database:
        columns = "id INTEGER, timestamp TEXT, event TEXT, realm TEXT, parameter TEXT, count INTEGER"
        database.execute(f"CREATE TABLE reporting ({columns})")
        for number in (6, 7, 8):
            row = ROW | {"id": number}
            names = [name.split()[0] for name in columns.split(", ")]
            database.execute("INSERT INTO reporting VALUES (?, ?, ?, ?, ?, ?)", [row[name] for name in names])
        found = [line for (line,) in database.execute(query.read_text(encoding="utf-8"), {"after": 6})]
    assert [json.loads(line)["id"] for line in found] == [7, 8]
    for line in found:
        (event,) = events("linotp-report", line.encode())
        assert isinstance(event, OtpTokenCount)
        assert (event.realm, event.status, event.count) == ("mydefrealm", "active", 4)
    assert lines(*found)
