"""Renders the validation errors of msgspec for people: the field, what it is, what is allowed, and an example.

A text names fields, limits and types. It contains no value, because it is written to headers and logs. The exceptions
are `type` and `time`, whose values are shown if they look like an event's name and like a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.suggestions import did_you_mean

_PLACE: Final = re.compile(r" - at `(?:(key) in )?\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]+)`$")
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`(?: (.+?))?(?:, got `([^`]+)`)?$")

_KINDS: Final = {
    "array": "an array",
    "bool": "true or false",
    "bytes": "text in base64",
    "datetime": "a time of RFC 3339 with offset",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "text",
}
_EXAMPLES: Final = {
    "active": "true",
    "assigned": "true",
    "client_id": '"web"',
    "count": "12",
    "counted": "false",
    "deleted": "false",
    "event": '"token_init"',
    "event_id": '"audit-4711"',
    "grant_type": '"authorization_code"',
    "id": '"login-4711"',
    "kind": '"signup"',
    "node": '"node-1"',
    "realm": '"customers"',
    "realms": '["customers"]',
    "reason": '"wrong_password"',
    "serial": '"TOTP0001"',
    "status": '"active"',
    "success": "false",
    "time": '"2026-11-20T12:00:00Z"',
    "tokens": '["access_token", "id_token"]',
    "type": '"login"',
    "user_id": '"7f9c24e5"',
}
"""One valid value of each field of the native events, as JSON."""


class _Shown(msgspec.Struct):
    """The fields whose values a message may show."""

    type: msgspec.Raw = msgspec.Raw()
    time: msgspec.Raw = msgspec.Raw()


_SHOWN: Final = msgspec.json.Decoder(_Shown)
_SAFE: Final = {
    "type": re.compile(rb'"[A-Za-z][A-Za-z_.-]{0,31}"|-?[0-9]{1,20}|true|false|null'),
    "time": re.compile(rb'"[0-9TtZz:+. -]{0,40}"|-?[0-9.]{1,20}|true|false|null'),
}


def example_of(field: str) -> str:
    """`; example: "kind": "signup"` for a field of the native events, otherwise nothing."""
    return f'; example: "{field}": {_EXAMPLES[field]}' if field in _EXAMPLES else ""


def describe(error: msgspec.ValidationError, raw: bytes = b"", types: Sequence[str] = ()) -> str:
    """One line for an error of `raw`. `types`: the allowed values of a native event's `type`; else empty."""
    text, place = str(error), ""
    if found := _PLACE.search(text):
        text, place = text[: found.start()], found[2]
        if found[1]:
            return f"a name in `{place or 'the object'}`: {text}"
    inside = f" in `{place}`" if place else ""
    if found := _MISSING.match(text):
        name = found[1]
        if types and not place and name == "type":
            return f"`type` is missing; allowed: {', '.join(types)}{example_of('type')}"
        return f"`{name}` is missing{inside}" + (example_of(name) if types and not place else "")
    if found := _UNKNOWN.match(text):
        return f"`{found[1]}` is not a known field{inside}"
    value = _value_of(place, raw) if types else ""
    subject = f"`{place}`" if place else "the value"
    if place == "type" and types:
        return _type_error(value, types)
    # The rest of such a text repeats the value.
    if text.startswith("Invalid value "):
        return f"{subject} has a value that is not allowed"
    example = example_of(place.partition("[")[0]) if types else ""
    if text.startswith("Invalid RFC3339"):
        return f"{subject} is {value or 'text'}; allowed: {_KINDS['datetime']}{example or example_of('time')}"
    if found := _EXPECTED.match(text):
        return f"{subject} {_is(found[2], found[3], value)}; allowed: {_allowed(found[1], found[2])}{example}"
    return f"{subject}: {text}"


def _type_error(value: str, types: Sequence[str]) -> str:
    found = f"is {value}" if value else "has another value"
    suggestion = did_you_mean(value.strip('"'), types)
    return f'`type` {found}; allowed: {", ".join(types)}; example: "type": "{types[0]}"{suggestion}'


def _value_of(place: str, raw: bytes) -> str:
    if place not in _SAFE:
        return ""
    try:
        value = bytes(getattr(_SHOWN.decode(raw), place))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return value.decode() if _SAFE[place].fullmatch(value) else ""


def _is(limit: str | None, got: str | None, value: str) -> str:
    if value:
        return f"is {value}"
    if got:
        return f"is {_KINDS.get(got, got)}"
    if limit and limit.startswith("of length <="):
        return "is too long"
    if limit and limit.startswith("of length >="):
        return "is too short"
    return "has a value that is not allowed"


def _allowed(kinds: str, limit: str | None) -> str:
    kind = " or ".join(_KINDS.get(each, each) for each in kinds.split(" | "))
    if limit is None or limit.startswith("with a timezone"):
        return kind
    unit = "entries" if kinds.startswith("array") else "characters"
    for sign, words in (("of length <= ", "at most"), ("of length >= ", "at least")):
        if limit.startswith(sign):
            return f"{kind} of {words} {limit.removeprefix(sign)} {unit}"
    if limit.startswith("matching regex "):
        return f"{kind} of the form {limit.removeprefix('matching regex ')}"
    return f"{kind} {limit.replace('>=', 'of at least').replace('<=', 'of at most')}"
