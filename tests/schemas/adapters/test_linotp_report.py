"""What rows of LinOTP's reporting table become, case by case."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from schemas.events import OtpTokenCount
from schemas.ledger.inventory import NO_REALM
from tests.schemas.adapters.cases import AT, AT_MS, events, refusal

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
TABLE_ROW = {f"R_{name.upper()}": value for name, value in ROW.items()}
count = partial(
    OtpTokenCount,
    time=AT,
    realm="mydefrealm",
    event="token_init",
    status="active",
    count=4,
    id="linotp:7:2026-01-01T00:00:00.123000+00:00",
)


LATER = count(
    time=datetime(2026, 1, 1, 0, 0, 0, 123456, UTC),
    id="linotp:7:2026-01-01T00:00:00.123456+00:00",
)


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (TABLE_ROW, count(), "a row as it is in the table"),
        ({name.lower(): value for name, value in TABLE_ROW.items()}, count(), "a connector that lowers names"),
        ({"payload": {"op": "c", "before": None, "after": TABLE_ROW}}, count(), "the table's row by Debezium"),
        ({"op": "r", "after": TABLE_ROW | {"R_TIMESTAMP": AT_MS * 1000}}, count(), "and without schemas"),
        ({"schema": {}, "payload": TABLE_ROW}, count(), "the table's row by the JDBC source"),
        (
            TABLE_ROW | {"R_VALUE": "a", "R_DETAIL": "b", "R_SESSION": "c", "R_DESCRIPTION": "d"},
            count(value="a", detail="b", session="c", description="d"),
            "texts as given",
        ),
        (TABLE_ROW | {"R_VALUE": None, "R_DETAIL": None}, count(), "columns without a value"),
        (TABLE_ROW | {"R_TIMESTAMP": "2026-01-01 00:00:00.123456"}, LATER, "microseconds"),
        (ROW, count(), "a row by the names in LinOTP's code"),
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
        ({"detail": "ü" * 4097}, "too_long", "detail"),
        ({"value": 5}, "wrong_type", "value"),
        ({"payload": [1]}, "wrong_type", "`payload` is not an object"),
        ({"after": "x"}, "wrong_type", "`after` is not an object"),
    ],
)
def test_bad_rows_are_refused_by_field(change: dict[str, Any], reason: str, said: str) -> None:
    found, detail = refusal("linotp-report", ROW | change)
    assert found == reason
    assert said in detail
