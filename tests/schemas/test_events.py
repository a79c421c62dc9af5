"""What counts as an event, case by case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import events, json_schemas
from schemas.events import BadRecordError, Login, RecordTime, TokenIssued

RECORD = RecordTime(1_763_640_000_000)  # 2025-11-20T12:00:00Z
LOGIN = {"time": "2025-11-20T12:00:00Z", "user_id": "alice"}
TOKEN = {"time": "2025-11-20T12:00:00Z", "grant_type": "password", "tokens": ["access_token"]}
ACCOUNT = {"time": "2025-11-20T12:00:00Z", "kind": "signup"}


def value(event: object) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("name", "event", "why"),
    [
        ("login", LOGIN, "the least"),
        ("login", LOGIN | {"type": "login", "unknown": [1, {"x": 2}]}, "its own type, and fields of later versions"),
        ("login", LOGIN | {"realm": None, "client_id": None}, "null is absent"),
        ("login", LOGIN | {"user_id": "", "success": False}, "a failure need not know its user"),
        ("login", LOGIN | {"time": "2025-11-20T13:30:00+01:30"}, "any offset"),
        ("login", LOGIN | {"time": "2025-11-21T12:00:00Z"}, "24 h ahead to the second"),
        ("login", LOGIN | {"time": "2000-01-01T00:00:00Z"}, "the earliest"),
        ("login", LOGIN | {"user_id": "ü" * 512}, "1,024 bytes"),
        ("login", LOGIN | {"realm": "x" * 256}, "256 bytes"),
        ("token", TOKEN | {"tokens": ["access_token"] * 16}, "16 token types"),
        ("account", ACCOUNT, "the least"),
    ],
)
def test_good_events_decode(name: str, event: dict[str, Any], why: str) -> None:
    assert events.decode(name, value(event), RECORD).time.year >= 2000, why


@pytest.mark.parametrize(
    ("name", "record", "reason", "said"),
    [
        ("login", None, "empty_value", "no value"),
        ("login", b"", "not_json", ""),
        ("login", b"nope", "not_json", "malformed"),
        ("login", b"\xff\xfe", "not_json", ""),
        ("login", b'{"time":"2025-11-20T12:00:00Z","user_id":"\xff"}', "not_json", "not UTF-8"),
        ("login", b'{"time":"2025-11-20T12:00:00Z","user_id":"\\ud800"}', "not_json", ""),
        ("login", b'{"x":' + b"[" * 100_000, "not_json", "nested too deeply"),
        ("login", b"[]", "not_an_object", "array"),
        ("login", b"null", "not_an_object", "null"),
        ("login", b'"text"', "not_an_object", "is text"),
        ("login", value({"time": LOGIN["time"]}), "missing_field", "user_id"),
        ("login", value({"user_id": "alice"}), "missing_field", "time"),
        ("login", value(LOGIN | {"user_id": ""}), "missing_field", "user_id"),
        ("login", value(LOGIN | {"user_id": 7}), "wrong_type", "user_id"),
        ("login", value(LOGIN | {"success": "yes"}), "wrong_type", "success"),
        ("login", value(LOGIN | {"time": 1_763_640_000}), "wrong_type", "time"),
        ("login", value(LOGIN | {"time": "2025-11-20T12:00:00"}), "wrong_type", "time"),
        ("login", value(LOGIN | {"time": "2025-02-30T12:00:00Z"}), "wrong_type", "time"),
        ("login", value(LOGIN | {"type": "token"}), "wrong_type", "type"),
        ("login", value(LOGIN | {"user_id": "x" * 1025}), "too_long", "user_id"),
        ("login", value(LOGIN | {"user_id": "ü" * 513}), "too_long", "user_id"),
        ("login", value(LOGIN | {"user_id": "x" * 900_000}), "too_long", "user_id"),
        ("login", value(LOGIN | {"id": "ü" * 1000}), "too_long", "id"),
        ("login", value(LOGIN | {"realm": "ü" * 129}), "too_long", "realm"),
        ("login", value(LOGIN | {"client_id": "x" * 257}), "too_long", "client_id"),
        ("login", value(LOGIN | {"reason": "x" * 257}), "too_long", "reason"),
        ("login", value(LOGIN | {"time": "2025-11-21T12:00:01Z"}), "impossible_time", "24 h"),
        ("login", value(LOGIN | {"time": "1999-12-31T23:59:59Z"}), "impossible_time", "2000"),
        ("token", value(TOKEN | {"tokens": []}), "wrong_type", "tokens"),
        ("token", value(TOKEN | {"tokens": ["x"] * 17}), "too_long", "tokens"),
        ("token", value(TOKEN | {"tokens": [""]}), "missing_field", "tokens"),
        ("token", value(TOKEN | {"tokens": ["ü" * 200]}), "too_long", "tokens"),
        ("token", value(TOKEN | {"tokens": "access_token"}), "wrong_type", "tokens"),
        ("token", value(TOKEN | {"grant_type": ""}), "missing_field", "grant_type"),
        ("account", value(ACCOUNT | {"kind": ""}), "missing_field", "kind"),
    ],
)
def test_bad_records_say_why_and_name_the_field(name: str, record: bytes | None, reason: str, said: str) -> None:
    with pytest.raises(BadRecordError) as refused:
        events.decode(name, record, RECORD)
    assert refused.value.reason == reason
    assert said in refused.value.detail
    assert reason in events.REASONS
    assert "alice" not in refused.value.detail


def test_defaults_are_those_of_the_contract() -> None:
    login = events.decode("login", value(LOGIN), RECORD)
    assert isinstance(login, Login)
    assert (login.success, login.counted, login.realm, login.reason) == (True, True, None, None)
    token = events.decode("token", value(TOKEN), RECORD)
    assert isinstance(token, TokenIssued)
    assert token.tokens == ("access_token",)


def test_published_json_schemas_are_what_the_code_says() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in Path(json_schemas.FOLDER).iterdir()}
    assert written == {name: json_schemas.as_text(document) for name, document in json_schemas.documents().items()}
