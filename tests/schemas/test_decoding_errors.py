"""Each message about a bad event names the field, what it is, what is allowed and an example."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_type_hints

import msgspec
import pytest

from schemas import events
from schemas.decoding_errors import describe, example_of
from schemas.events import EVENTS, BadRecordError

LOGIN: dict[str, Any] = {"time": "2026-11-20T12:00:00Z", "user_id": "alice"}
TIME_EXAMPLE = '; example: "time": "2026-11-20T12:00:00Z"'
TIME = f"allowed: a time of RFC 3339 with offset{TIME_EXAMPLE}"
ALL = "login, token, account, otp, otp-count"

CASES: list[tuple[str, object, str]] = [
    ("native", LOGIN, f'`type` is missing; allowed: {ALL}; example: "type": "login"'),
    (
        "native",
        LOGIN | {"type": "logins"},
        f'`type` is "logins"; allowed: {ALL}; example: "type": "login"; did you mean login?',
    ),
    ("native", LOGIN | {"type": 7}, f'`type` is 7; allowed: {ALL}; example: "type": "login"'),
    ("native", LOGIN | {"type": "alice@x"}, f'`type` has another value; allowed: {ALL}; example: "type": "login"'),
    ("login", LOGIN | {"type": "token"}, '`type` is "token"; allowed: login; example: "type": "login"'),
    ("login", {"time": LOGIN["time"]}, '`user_id` is missing; example: "user_id": "7f9c24e5"'),
    ("login", LOGIN | {"user_id": 7}, '`user_id` is a whole number; allowed: text; example: "user_id": "7f9c24e5"'),
    ("login", LOGIN | {"success": "yes"}, '`success` is text; allowed: true or false; example: "success": false'),
    ("login", LOGIN | {"time": "2026-11-20T12:00"}, f'`time` is "2026-11-20T12:00"; {TIME}'),
    ("login", LOGIN | {"time": 1763640000}, f"`time` is 1763640000; {TIME}"),
    ("login", LOGIN | {"time": "alice"}, f"`time` is text; {TIME}"),
    (
        "login",
        LOGIN | {"user_id": "x" * 2000},
        '`user_id` is too long; allowed: text of at most 1024 characters; example: "user_id": "7f9c24e5"',
    ),
    ("login", LOGIN | {"user_id": "ü" * 600}, "`user_id` is too long; allowed: at most 1024 bytes in UTF-8"),
    ("login", [1], "the value is an array; allowed: an object"),
    (
        "token",
        {"time": LOGIN["time"], "grant_type": "x", "tokens": "access_token"},
        '`tokens` is text; allowed: an array; example: "tokens": ["access_token", "id_token"]',
    ),
    (
        "token",
        {"time": LOGIN["time"], "grant_type": "x", "tokens": [7]},
        '`tokens[0]` is a whole number; allowed: text; example: "tokens": ["access_token", "id_token"]',
    ),
    (
        "token",
        {"time": LOGIN["time"], "grant_type": "x", "tokens": []},
        "`tokens` is too short; allowed: an array of at least 1 entries; "
        'example: "tokens": ["access_token", "id_token"]',
    ),
    ("account", {"time": LOGIN["time"], "kind": ""}, '`kind` is empty; example: "kind": "signup"'),
    (
        "otp-count",
        {"time": LOGIN["time"], "realm": "r", "event": "e", "status": "actve", "count": 1},
        "`status` is unknown; allowed: total, active, inactive, assigned, unassigned, active&assigned, "
        "active&unassigned, inactive&assigned, inactive&unassigned, total users; "
        'example: "status": "active"',
    ),
    (
        "otp-count",
        {"time": LOGIN["time"], "realm": "r", "event": "e", "status": "active", "count": -1},
        '`count` has a value that is not allowed; allowed: a whole number of at least 0; example: "count": 12',
    ),
]


@pytest.mark.parametrize(("name", "value", "text"), CASES, ids=[case[2][:50] for case in CASES])
def test_the_message_names_field_value_allowed_values_and_an_example(name: str, value: object, text: str) -> None:
    with pytest.raises(BadRecordError) as refused:
        events.decode_native(name, json.dumps(value).encode())
    assert refused.value.detail == text


@pytest.mark.parametrize("field", sorted({name for event in EVENTS.values() for name in event.__struct_fields__}))
def test_every_field_of_an_event_has_a_valid_example_or_is_plain_text(field: str) -> None:
    example = example_of(field)
    if not example:
        assert field in {"value", "detail", "session", "description"}
        return
    value = json.loads("{" + example.removeprefix("; example: ") + "}")[field]
    for event in EVENTS.values():
        hints = get_type_hints(event, include_extras=True)
        if field in hints:
            msgspec.convert({field: value}, msgspec.defstruct("One", [(field, hints[field])]))


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")]
    limit: int = 1


OTHERS = [
    (b'[{"name": "A"}]', "`[0].name` has a value that is not allowed; allowed: text of the form '^[a-z]+$'"),
    (b'[{"nam": "a"}]', "`nam` is not a known field in `[0]`"),
    (b'[{"limit": 1}]', "`name` is missing in `[0]`"),
    (b'[{"name": "a", "limit": "9"}]', "`[0].limit` is text; allowed: a whole number"),
    (b"{}", "the value is an object; allowed: an array"),
]


@pytest.mark.parametrize(("raw", "text"), OTHERS)
def test_a_message_about_another_schema_has_no_example_of_an_event(raw: bytes, text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(raw, type=list[_Entry])
    assert describe(refused.value, raw) == text
