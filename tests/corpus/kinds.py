"""What producers write that they should not, or that only looks so: one entry for each kind, with its why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.corpus.bindings import BINDINGS, Role

BOM: Final = b"\xef\xbb\xbf"
ABSENT: Final = object()
"""In a change: the field is taken away."""
GOOD: Final = "good"
"""In `becomes`: what the binding's record becomes without the change."""
NONE: Final = ""
"""In `becomes`: no element at all."""
LATE: Final = "late "
"""In `becomes`, before a reason: found after the time is judged, where the binding checks lengths late."""

_SINGLE: Final = tuple(name for name, binding in BINDINGS.items() if not binding.several)
_TEXT: Final = tuple(name for name, binding in BINDINGS.items() if binding.time == "text")
_MS: Final = tuple(name for name, binding in BINDINGS.items() if binding.time == "ms")
_NAIVE: Final = ("linotp-report",)
_TIMELESS: Final = (*_MS, "auth0-logs", "cloudevents")
_STRICT: Final = ("login", "token", "account")
"""Whose decoder refuses too many characters, before the time is judged."""
_LOGINS: Final = tuple(name for name, binding in BINDINGS.items() if binding.other_becomes.startswith("failed"))


class Kind(NamedTuple):
    why: str
    becomes: str = GOOD
    """Elements joined by `, `: GOOD, `record` (GOOD, at the record's timestamp), `ignored`, `repeated`, `dead/…`."""
    change: Mapping[Role, Any] = {}
    """Fields written over those of the record."""
    frame: bytes | None = b"%b"
    """The whole value: `%b` stands for the record, None for a tombstone."""
    other: bool = False
    """Whether the binding's second record is changed."""
    only: tuple[str, ...] = tuple(BINDINGS)
    """The bindings that it is of."""
    instead: Mapping[tuple[str, ...], str] = {}
    """What it becomes in some bindings."""
    same_id: bool = False
    """Whether all elements have one id."""
    headers: Sequence[tuple[str, bytes]] = ()
    """What the value needs beside it."""


_JUNK: Final[Mapping[str, Kind]] = {
    "tombstone": Kind("a tombstone, as compacted topics have it", "dead/empty_value", frame=None),
    "empty": Kind("an empty value is no tombstone", "dead/not_json", frame=b""),
    "one byte": Kind(
        "the byte that made all days disappear together with a far timestamp", "dead/not_json", frame=b"x"
    ),
    "NUL bytes": Kind("a preallocated buffer sent by mistake", "dead/not_json", frame=b"\0" * 64),
    "line feeds": Kind("nothing but separators of JSON Lines", "dead/not_json", frame=b"\n" * 1000),
    "UTF-16": Kind("JSON in another encoding", "dead/not_json", frame=b'\xff\xfe{\0"\0a\0"\0'),
    "cut short": Kind("a producer's buffer ended early", "dead/not_json", frame=b'{"user_id":"u","tim'),
    "BOM only": Kind("an empty file written by an editor", "dead/not_json", frame=BOM),
    "two BOMs": Kind("a BOM is skipped once", "dead/not_json", frame=BOM + BOM + b"%b"),
    "two values": Kind("two records in one without a separator", "dead/not_json", frame=b"%b%b"),
    "null": Kind("a serializer's null", "dead/not_an_object", frame=b"null"),
    "number": Kind("a metric on the wrong topic", "dead/not_an_object", frame=b"1.7949E12"),
    "text": Kind("JSON serialized twice", "dead/not_an_object", frame=b'"{\\"type\\":\\"login\\"}"'),
    "empty object": Kind("a record of nothing", "dead/missing_field", frame=b"{}"),
    "open brackets": Kind("nested beyond any stack; the first byte decides", "dead/not_an_object", frame=b"[" * 20_000),
    "deep field": Kind(
        "well-formed, in an unknown field, nested beyond any stack",
        "dead/not_json",
        frame=b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ),
    "empty array": Kind("a batch of nothing", NONE, frame=b"[]", instead={_SINGLE: "dead/not_an_object"}),
    "huge array": Kind(
        "more elements than one script may take",
        "dead/too_long",
        frame=b"[" + b"0," * 10_000 + b"0]",
        instead={_SINGLE: "dead/not_an_object"},
    ),
}
_WHOLE: Final[Mapping[str, Kind]] = {
    "good": Kind("nothing is odd but its surroundings"),
    "other": Kind("the binding's second sort of record", other=True),
    "ignored": Kind(
        "well-formed and of no concern",
        "ignored",
        only=tuple(name for name, binding in BINDINGS.items() if binding.ignored is not None),
    ),
    "BOM": Kind("some serializers write a BOM before JSON", frame=BOM + b"%b"),
    "spaces": Kind("pretty printing, CRLF", frame=b"\r\n\t %b \r\n"),
    "array": Kind(
        "several events in one record", f"{GOOD}, {GOOD}", frame=b"[%b,%b]", instead={_SINGLE: "dead/not_an_object"}
    ),
    "mixed array": Kind(
        "bad elements beside good ones: one dead letter each",
        f"{GOOD}, dead/not_an_object, dead/missing_field, {GOOD}, dead/not_an_object",
        frame=b"[%b,5,{},%b,null]",
        instead={_SINGLE: "dead/not_an_object"},
    ),
    "lines": Kind("JSON Lines", f"{GOOD}, {GOOD}", frame=b"%b\n%b\n", instead={_SINGLE: "dead/not_json"}),
    "repeated": Kind(
        "the same event twice in one record",
        f"{GOOD}, repeated",
        frame=b"[%b,%b]",
        same_id=True,
        only=tuple(name for name, binding in BINDINGS.items() if binding.several and binding.identified),
    ),
}
_TEXTS: Final[Mapping[str, Kind]] = {
    "NUL in a name": Kind("C strings end there, ours do not", change={"label": "a\0b"}),
    "unicode forms": Kind("a decomposed letter, a right-to-left mark", change={"label": "e\u0301\u200fé"}),
    "reserved name": Kind("the name under which overflow counts", change={"label": "__other__"}),
    "slashes": Kind("what separates the parts of our keys", change={"label": "a/b:{c}*%2F"}),
    "lone surrogate": Kind("half a character: no UTF-8", "dead/not_json", change={"label": "\ud800"}),
    "number as a name": Kind("a database's numeric id", "dead/wrong_type", change={"label": 5}),
    "object as a name": Kind("an id with parts", "dead/wrong_type", change={"label": {"id": "acme"}}),
    "long name": Kind(
        "300 bytes where 256 fit",
        LATE + "dead/too_long",
        change={"label": "r" * 300},
        instead={_STRICT: "dead/too_long"},
    ),
    "wide name": Kind("86 characters, 258 bytes", LATE + "dead/too_long", change={"label": "東" * 86}),
    "long name of a failure": Kind(
        "what an attacker typed does not hide the failure", other=True, change={"label": "r" * 300}, only=_LOGINS
    ),
    "long user": Kind(
        "ten thousand characters",
        LATE + "dead/too_long",
        change={"user": "u" * 10_000},
        instead={_STRICT: "dead/too_long"},
        only=tuple(name for name, binding in BINDINGS.items() if "user" in binding.paths),
    ),
    "long user of a failure": Kind(
        "what an attacker typed does not hide the failure", other=True, change={"user": "u" * 10_000}, only=_LOGINS
    ),
    "nobody": Kind("a success without a user", LATE + "dead/missing_field", change={"user": ""}, only=_LOGINS),
}
_TIMES: Final[Mapping[str, Kind]] = {
    "no own time": Kind(
        "the record's timestamp stands in where the product has no time",
        "dead/missing_field",
        change={"time": ABSENT},
        instead={_TIMELESS: "record"},
    ),
    "nine digits": Kind("nanoseconds are cut, never rounded up", change={"time": "<fine>"}, only=_TEXT),
    "float": Kind("whole milliseconds of a language without integers", change={"time": "<ms.0>"}, only=_MS + _NAIVE),
    "exponent": Kind("Java's and R's way to write them", change={"time": "<msE>"}, only=_MS + _NAIVE),
    "fraction": Kind("a part of a millisecond", "dead/wrong_type", change={"time": "<ms.5>"}, only=_MS + _NAIVE),
    "number as time": Kind("a number where RFC 3339 is due", "dead/wrong_type", change={"time": "<ms>"}, only=_TEXT),
    "number as text": Kind("every column is text", "dead/wrong_type", change={"time": "1794900000000"}),
    "no time at all": Kind("a word", "dead/wrong_type", change={"time": "yesterday"}),
    "list as time": Kind("Java's LocalDateTime", "dead/wrong_type", change={"time": [2026, 11, 20]}),
    "without offset": Kind(
        "local time of an unknown place", "dead/wrong_type", change={"time": "2026-11-20T10:00:00"}, only=_TEXT
    ),
    "last day": Kind(
        "beyond the last instant of a date, by its offset",
        "dead/impossible_time",
        change={"time": "9999-12-31T23:59:59.999999-23:59"},
        only=_TEXT,
    ),
    "end of time": Kind(
        "rounded up it would be in the year 10000, which no date holds",
        "dead/impossible_time",
        change={"time": "9999-12-31T23:59:59.9999999Z"},
        only=_TEXT,
        # Their decoder rounds before anybody can cut.
        instead={(*_STRICT, "otp", "otp-count", "native"): "dead/wrong_type"},
    ),
    "first day": Kind(
        "before the first instant of a date, by its offset",
        "dead/impossible_time",
        change={"time": "0001-01-01T00:00:00+14:00"},
        only=_TEXT,
    ),
    "before 2000": Kind(
        "the last instant before 2000, rounded up it would not be",
        "dead/impossible_time",
        change={"time": "1999-12-31T23:59:59.9999999Z"},
        only=_TEXT,
    ),
    "last second": Kind(
        "year 9999", "dead/impossible_time", change={"time": "9999-12-31 23:59:59.999999"}, only=_NAIVE
    ),
    "old row": Kind("before 2000", "dead/impossible_time", change={"time": "1999-12-31 23:59:59"}, only=_NAIVE),
    "last millisecond": Kind("year 9999", "dead/impossible_time", change={"time": 253_402_300_799_999}, only=_MS),
    "far number": Kind("no date holds it", "dead/impossible_time", change={"time": 2**63 - 1}, only=_MS + _NAIVE),
    "negative": Kind("before the epoch", "dead/impossible_time", change={"time": -1}, only=_MS + _NAIVE),
    "seconds": Kind("another unit", "dead/impossible_time", change={"time": 1_794_900_000}, only=_MS + _NAIVE),
    "huge number": Kind("400 digits", "dead/impossible_time", change={"time": 10**400}, only=_MS + _NAIVE),
}
_BINARY: Final = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"<id>"),
    ("ce_source", b"/"),
    ("ce_type", b"io.identity.login.v1"),
    ("ce_time", b"<time>"),
    ("ce_subject", b"u"),
)
_HEADED: Final[Mapping[str, Kind]] = {
    "binary mode": Kind(
        "CloudEvents with its attributes in headers",
        frame=b'{"tenant":"acme","client":"web"}',
        only=("cloudevents",),
        headers=_BINARY,
    ),
    "no data": Kind("an event that is all attributes", frame=b"", only=("cloudevents",), headers=_BINARY),
    "headed tombstone": Kind(
        "attributes of an event, and none", "dead/empty_value", frame=None, only=("cloudevents",), headers=_BINARY
    ),
    "data of bytes": Kind(
        "an image as the data of an event",
        "dead/not_json",
        frame=b"\x89PNG\r\n",
        only=("cloudevents",),
        headers=_BINARY,
    ),
}
KINDS: Final[Mapping[str, Kind]] = {**_JUNK, **_WHOLE, **_TEXTS, **_TIMES, **_HEADED}
