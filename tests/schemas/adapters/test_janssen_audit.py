"""What the audit log of Janssen and Gluu becomes, case by case."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from schemas.events import AccountEvent, Event, Login, TokenIssued
from tests.schemas.adapters.cases import AT, AT_MS, RECORDED_AT, elements, events, lines, refusal


def audited(action: str, **more: Any) -> dict[str, Any]:
    return {
        "ip": "203.0.113.7",
        "action": action,
        "timestamp": AT_MS,
        "macAddress": "0A-1B-2C-3D-4E-5F",
        "clientId": "3000.aaaa",
        "username": "alice",
        "scope": "openid profile",
        "success": True,
    } | more


def documented(action: str, success: bool) -> dict[str, Any]:
    record = audited(action, isSuccess=success)
    del record["success"]
    return record


common: dict[str, Any] = {"time": AT, "client_id": "3000.aaaa"}
login = partial(Login, user_id="alice", node="0A-1B-2C-3D-4E-5F", **common)
account = partial(AccountEvent, user_id="alice", **common)
TOKEN = TokenIssued(grant_type="unknown", tokens=("access_token",), user_id="alice", node="0A-1B-2C-3D-4E-5F", **common)


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (documented("USER_AUTHORIZATION", True), [login()], "a successful authentication, as documented"),
        (documented("USER_AUTHORIZATION", False), [login(success=False)], "a failed one, as documented"),
        (audited("USER_AUTHORIZATION"), [login()], "as the server writes it"),
        (audited("USER_AUTHORIZATION", success=False), [login(success=False)], "as the server writes it"),
        (
            audited("USER_AUTHORIZATION", success=False, username=None),
            [login(success=False, user_id="")],
            "a failure need not know its user",
        ),
        (audited("SESSION_AUTHENTICATED"), [login(counted=False)], "activity, and no second login"),
        (audited("SESSION_AUTHENTICATED", success=False), [], "no activity"),
        (audited("SESSION_UNAUTHENTICATED"), [], "before the user has said who it is"),
        (audited("TOKEN_REQUEST"), [TOKEN], "no grant is named, and only one kind is certain"),
        (audited("TOKEN_REQUEST", success=False), [], "nothing was issued"),
        (audited("CLIENT_REGISTRATION"), [account(kind="client_registered")], "client registration"),
        (audited("CLIENT_UPDATE"), [account(kind="client_updated")], "and update"),
        (audited("CLIENT_DELETE"), [account(kind="client_deleted")], "and its end"),
        (audited("CLIENT_REGISTRATION", success=False), [], "nothing was registered"),
        (audited("CLIENT_READ"), [], "a look"),
        (audited("DEVICE_CODE_AUTHORIZATION"), [], "a request, no token yet"),
        (audited("BACKCHANNEL_AUTHENTICATION"), [], "a request, no token yet"),
        (audited("SSA_CREATE"), [], "no user's doing"),
        (audited("ACTION_OF_2030"), [], "a later version's"),
        (audited("USER_AUTHORIZATION", timestamp="2026-01-01T00:00:00.123Z"), [login()], "ISO time"),
        (audited("USER_AUTHORIZATION", timestamp="2026-01-01T01:30:00.123+0130"), [login()], "as older Jackson has it"),
        (audited("USER_AUTHORIZATION", timestamp=None), [login(time=RECORDED_AT)], "the record's own time"),
    ],
)
def test_audit_messages_become_ours(record: dict[str, Any], expected: list[Event], why: str) -> None:
    assert events("janssen-audit", record) == expected, why
    assert all(event.id is None for event in expected), "an audit message has no id"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (audited("SESSION_AUTHENTICATED"), [login()]),
        (audited("SESSION_AUTHENTICATED", success=False), [login(success=False)]),
        (audited("USER_AUTHORIZATION"), [login(counted=False)]),
        (audited("USER_AUTHORIZATION", success=False), []),
        (audited("TOKEN_REQUEST"), [TOKEN]),
    ],
)
def test_sessions_count_the_other_way_round(record: dict[str, Any], expected: list[Event]) -> None:
    assert events("janssen-audit-sessions", record) == expected


def test_a_message_may_be_pretty_printed() -> None:
    pretty = json.dumps(audited("USER_AUTHORIZATION"), indent=4).encode()
    assert events("janssen-audit", pretty) == [login()]
    reason, detail = refusal("janssen-audit", json.dumps(audited("USER_AUTHORIZATION", username=7), indent=4).encode())
    assert (reason, "username" in detail) == ("wrong_type", True)
    assert refusal("janssen-audit", pretty[:-3])[0] == "not_json"


def test_a_log_file_is_read_line_by_line() -> None:
    found = elements("janssen-audit", lines(audited("TOKEN_REQUEST"), b"--- rolled over ---", audited("CLIENT_READ")))
    assert [(one.events, one.bad and one.bad.reason) for one in found] == [
        ((TOKEN,), None),
        ((), "not_json"),
        ((), None),
    ]


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        (audited("USER_AUTHORIZATION", username=None), "missing_field", "user_id"),
        (audited("USER_AUTHORIZATION", success=None), "missing_field", "success"),
        ({"timestamp": AT_MS}, "missing_field", "action"),
        (audited("USER_AUTHORIZATION", success="true"), "wrong_type", "success"),
        (audited("USER_AUTHORIZATION", timestamp=1.5), "wrong_type", "timestamp"),
        (audited("USER_AUTHORIZATION", timestamp=AT_MS // 1000), "impossible_time", "2000"),
        (audited("TOKEN_REQUEST", clientId="x" * 257), "too_long", "client_id"),
    ],
)
def test_bad_records_say_why(record: object, reason: str, said: str) -> None:
    found, detail = refusal("janssen-audit", record)
    assert found == reason
    assert said in detail


def test_a_record_may_be_an_entry_of_the_log_file() -> None:
    message = json.dumps({"action": "USER_AUTHORIZATION", "username": "u", "success": True}, indent=2)
    entry = f"2026-01-01 00:00:00,123 INFO  [qtp1-17] [audit.Logger] (Logger.java:167) - {message}".encode()
    (one,) = elements("janssen-audit", entry)
    assert len(one.events) == 1
    broken = entry[:-1]
    (bad,) = elements("janssen-audit", broken)
    assert (bad.events, bad.raw) == ((), broken)
