"""Hostile records as data, each with the outcome that the contract requires.

A record's fate depends on its specimen, its timestamp and the true time alone. `SERIAL` in a value or an id stands for
a number that no other record of the run has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from schemas.events import EARLIEST, MAX_AHEAD
from schemas.ledger.scopes import OTHER
from tests.integration.publishing import CLIENTS, REALMS
from tests.qualification.chaos.faulty_fold import MARK as RAISES

MARK: Final = "chaos"
"""Header of every poisoned record: the eight bytes by which the harness knows it again."""
Headers = tuple[tuple[str, bytes | None], ...]

HOUR_MS: Final = 3_600_000
LONGEST: Final = 2**63 - 1
UNEXPECTED: Final = "unexpected"
NO_LIMITS: Final = {
    # Kafka deletes by record timestamp: one of the year 2000 would be gone before anybody reads it.
    "retention.ms": "-1",
    "message.timestamp.before.max.ms": str(LONGEST),
    "message.timestamp.after.max.ms": str(LONGEST),
}
"""Topic config with which a broker takes any timestamp, and keeps its record."""


def stamps(now_ms: int) -> dict[str, int]:
    """Odd record timestamps by name. `now_ms` is the run's first timestamp."""
    return {
        "none": -1,
        "zero": 0,
        "seconds": now_ms // 1000,
        "microseconds": now_ms * 1000,
        "nanoseconds": now_ms * 1_000_000,
        "before 2000": _ms(EARLIEST) - 1,
        "year 2000": _ms(EARLIEST),
        "yesterday": now_ms - 24 * HOUR_MS,
        "tomorrow": now_ms + 20 * HOUR_MS,
        "year 2100": _ms(datetime(2100, 1, 1, tzinfo=UTC)),
        "year 9999": _ms(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        "2^62": 2**62,
        "highest": LONGEST,
        "lowest": -LONGEST - 1,
        "negative": -now_ms,
    }


@dataclass(frozen=True)
class Dead:
    """A dead letter with this reason.

    `time` is that of an event which decodes: a time that cannot be is found before its empty fields are.
    """

    reason: str
    time: str = ""


@dataclass(frozen=True)
class Counts:
    """Counted as this event, unless its time or its id forbids. Without `time` the event has the record's."""

    event: dict[str, Any]


Outcome = Dead | Counts


@dataclass(frozen=True)
class Specimen:
    """One kind of hostile record. `becomes` has an entry per element of the record."""

    name: str
    why: str
    value: bytes | None
    becomes: tuple[Outcome, ...]
    key: bytes | None = b"k"
    headers: Headers = ()
    defect: bool = False
    """Whether it is a good record on which the fold of this run raises."""

    def value_of(self, serial: int) -> bytes | None:
        return None if self.value is None else self.value.replace(b"SERIAL", b"%d" % serial)

    @property
    def timeless(self) -> bool:
        """Whether some element has no time of its own."""
        return any(isinstance(one, Counts) and "time" not in one.event for one in self.becomes)


def fates(becomes: Sequence[Outcome], serial: int, stamp_ms: int, clock_ms: int) -> list[Outcome]:
    """What a record with that timestamp must become, per element; events come back with time and id filled in."""
    usable = is_usable(stamp_ms, clock_ms)
    now = datetime.fromtimestamp((stamp_ms if usable else clock_ms) / 1000, UTC)
    return [
        _dead(one, now) if isinstance(one, Dead) else _fate(one.event, serial, now, usable=usable) for one in becomes
    ]


def is_usable(stamp_ms: int, clock_ms: int) -> bool:
    return _ms(EARLIEST) <= stamp_ms <= clock_ms + 24 * HOUR_MS


def _dead(one: Dead, now: datetime) -> Dead:
    if one.time and not EARLIEST <= datetime.fromisoformat(one.time + "+00:00") <= now + MAX_AHEAD:
        return Dead("impossible_time")
    return Dead(one.reason)


def _fate(event: dict[str, Any], serial: int, now: datetime, *, usable: bool) -> Outcome:
    if "time" not in event and not usable:
        return Dead("no_time")
    # Without its seventh digit of fraction, which Python's own parser does not know.
    time = datetime.fromisoformat(event["time"][:26] + "+00:00") if "time" in event else now
    if not EARLIEST <= time <= now + MAX_AHEAD:
        return Dead("impossible_time")
    known = event | {"time": time.isoformat()}
    if "id" in event:
        known["id"] = event["id"].replace("SERIAL", str(serial))
    return Counts(known)


def corpus(event: str, now_ms: int) -> list[Specimen]:
    """The specimens for a topic bound to `login`, `token` or `cloudevents`."""
    if event == "cloudevents":
        return _cloudevents(now_ms)
    return [*_any(event, now_ms), *(_logins(now_ms) if event == "login" else _tokens(now_ms))]


def _event(event: str, now_ms: int) -> dict[str, Any]:
    """One that counts, of an hour ago. No offset: all times here are UTC, with six digits of fraction."""
    common = {"time": _at(now_ms - HOUR_MS), "user_id": "poisoner", "realm": REALMS[0], "client_id": CLIENTS[0]}
    return common if event == "login" else common | {"grant_type": "refresh_token", "tokens": ["access_token"]}


def _any(kind: str, now_ms: int) -> list[Specimen]:
    good = _event(kind, now_ms)
    month = datetime.fromtimestamp(now_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # Seven digits of fraction, as .NET writes them: one tick before the month begins.
    late = _at(_ms(month) - 1)[:20] + "9999999"

    def dead(name: str, why: str, value: bytes | None, reason: str, **more: Any) -> Specimen:
        return Specimen(name, why, value, (Dead(reason),), **more)

    def counted(name: str, why: str, value: bytes, event: dict[str, Any] = good) -> Specimen:
        return Specimen(name, why, value, (Counts(event),))

    forged = (("authtally-offset", b"no number"), ("authtally-topic", b"another"), ("\u00e9", None))
    return [
        Specimen(
            "defect",
            "its content is unforeseen",
            _json(_zoned(good) | {"user_id": RAISES.decode()}),
            (Dead(UNEXPECTED),),
            defect=True,
        ),
        dead(
            "nothing", "neither key nor value: an assertion of the dead-letter producer", None, "empty_value", key=None
        ),
        dead("tombstone", "a compacted topic's deletion", None, "empty_value"),
        dead("no bytes", "an empty value is not JSON", b"", "not_json", key=b""),
        dead("one byte", "the least that can be wrong", b"x", "not_json", key=None),
        dead("no UTF-8", "bytes of another encoding", b"{\xff\xfe}", "not_json"),
        dead("nested", "deeper than the interpreter's stack", b'{"x": ' + b"[" * 50_000, "not_json"),
        dead("half", "an object that was cut off", _json(_zoned(good))[:-9], "not_json"),
        dead("long", "hundreds of kilobytes of nothing", b"x" * 700_000, "not_json"),
        dead("long key", "a key as long as a value", b"x", "not_json", key=b"k" * 300_000),
        dead("null", "JSON, and no object", b"null", "not_an_object"),
        dead("number", "JSON, and no object", b"17", "not_an_object"),
        dead("array", "native topics take one object", b"[" + _json(good) + b"]", "not_an_object"),
        dead("empty object", "no field at all", b"{}", "missing_field"),
        dead("another event", "the type of another topic", _json(good | {"type": "otp"}), "wrong_type"),
        dead("time of day", "a time without a date", _json(good | {"time": "12:00"}), "wrong_type"),
        dead("no zone", "a time without an offset", _json(good), "wrong_type"),
        dead("long client", "over its limit", _json(_zoned(good) | {"client_id": "c" * 300}), "too_long"),
        dead("forged headers", "headers that only a dead letter has", b"x", "not_json", headers=forged),
        dead(
            "1999",
            "before any product",
            _json(_zoned(good | {"time": "1999-12-31T23:59:59.000000"})),
            "impossible_time",
        ),
        dead(
            "year 1",
            "the first that Python knows",
            _json(_zoned(good | {"time": "0001-01-01T00:00:00.000000"})),
            "impossible_time",
        ),
        dead(
            "year 9999",
            "the last that Python knows",
            _json(_zoned(good | {"time": "9999-12-31T23:59:59.999999"})),
            "impossible_time",
        ),
        counted("plain", "a good event among bad ones", _json(_zoned(good))),
        counted("unknown fields", "a newer producer", _json(_zoned(good) | {"x": {"y": [1e300, None]}})),
        counted(
            "controls",
            "control characters in a user id",
            _json(_zoned(good) | {"user_id": "\x00\x1b]0;x\x07"}),
            good | {"user_id": "\x00\x1b]0;x\x07"},
        ),
        counted("BOM", "written by a Windows program", b"\xef\xbb\xbf" + _json(_zoned(good))),
        counted(
            "last tick",
            "rounded up it would be of the next month",
            _json(_zoned(good | {"time": late})),
            good | {"time": late},
        ),
        counted(
            "repeated",
            "sent again and again with one id",
            _json(_zoned(good) | {"id": "poison"}),
            good | {"id": "poison"},
        ),
        counted(
            "unique", "an id of its own", _json(_zoned(good) | {"id": "poison-SERIAL"}), good | {"id": "poison-SERIAL"}
        ),
    ]


def _logins(now_ms: int) -> list[Specimen]:
    good = _event("login", now_ms)
    empty = Dead("missing_field", good["time"])
    failed = good | {"success": False, "reason": "locked"}
    del failed["client_id"]

    def typed(name: str, field: str, size: int, becomes: Any) -> Specimen:
        """A field that is too long in a failed login, as an attacker types it."""
        event = {name: value for name, value in failed.items() if name != field}
        if becomes is not None:
            event[field] = becomes
        return Specimen(
            name,
            f"an attacker types {field}: the failure counts all the same",
            _json(_zoned(failed) | {field: "x" * size}),
            (Counts(event),),
        )

    return [
        Specimen("no user", "a success without a user", _json(_zoned(good) | {"user_id": ""}), (empty,)),
        Specimen(
            "long user",
            "over its limit in a success",
            _json(_zoned(good) | {"user_id": "u" * 1025}),
            (Dead("too_long"),),
        ),
        Specimen("text for true", "a boolean as text", _json(_zoned(good) | {"success": "yes"}), (Dead("wrong_type"),)),
        typed("typed client", "client_id", 300, OTHER),
        typed("typed reason", "reason", 300, OTHER),
        typed("typed realm", "realm", 300, OTHER),
        typed("typed user", "user_id", 2000, ""),
    ]


def _tokens(now_ms: int) -> list[Specimen]:
    good = _zoned(_event("token", now_ms))
    empty = Dead("missing_field", good["time"].removesuffix("Z"))
    return [
        Specimen("no grant", "an empty grant type", _json(good | {"grant_type": ""}), (empty,)),
        Specimen("no tokens", "an answer without tokens", _json(good | {"tokens": []}), (Dead("wrong_type"),)),
        Specimen(
            "17 tokens", "one more than there may be", _json(good | {"tokens": ["id_token"] * 17}), (Dead("too_long"),)
        ),
        Specimen("empty token", "a token type without a name", _json(good | {"tokens": [""]}), (empty,)),
    ]


def _cloudevents(now_ms: int) -> list[Specimen]:
    good = _event("login", now_ms)
    time = good["time"] + "Z"
    data = {name: value for name, value in good.items() if name != "time"}
    timeless = dict(data)

    def envelope(number: int, **more: Any) -> dict[str, Any]:
        attributes = {"specversion": "1.0", "id": f"SERIAL-{number}", "source": MARK, "type": "io.identity.login.v1"}
        return attributes | {"data": data} | more

    def ided(event: dict[str, Any], number: int = 0) -> Counts:
        return Counts(event | {"id": f"cloudevents:{len(MARK)}:{MARK}:SERIAL-{number}"})

    def binary(name: str, why: str, time: bytes | None, becomes: Outcome) -> Specimen:
        attributes = {"specversion": b"1.0", "id": b"binary-" + name.encode(), "source": MARK.encode()}
        headers = [*attributes.items(), ("type", b"io.identity.login.v1"), ("time", time)]
        return Specimen(
            name, why, _json(data), (becomes,), headers=tuple((f"ce_{key}", value) for key, value in headers)
        )

    def result(event: dict[str, Any], name: str) -> Counts:
        return Counts(event | {"id": f"cloudevents:{len(MARK)}:{MARK}:binary-{name}"})

    return [
        Specimen("nothing", "neither key nor value", None, (Dead("empty_value"),), key=None),
        Specimen("one byte", "the least that can be wrong", b"x", (Dead("not_json"),), key=None),
        Specimen("no envelope", "no attribute at all", b"{}", (Dead("missing_field"),)),
        Specimen("timed", "an event with a time", _json(envelope(0, time=time)), (ided(good),)),
        Specimen("timeless", "the record's time is its own", _json(envelope(0)), (ided(timeless),)),
        Specimen("text", "data as JSON text", _json(envelope(0, time=time, data=json.dumps(data))), (ided(good),)),
        Specimen("BOM", "written by a Windows program", b"\xef\xbb\xbf" + _json(envelope(0, time=time)), (ided(good),)),
        Specimen(
            "batch",
            "one dead letter per bad element, the others count",
            _json([envelope(0, time=time), 17, envelope(2), {}, envelope(4, time=time)]),
            (ided(good), Dead("not_an_object"), ided(timeless, 2), Dead("missing_field"), ided(good, 4)),
        ),
        binary("null time", "a header without a value is absent", None, result(timeless, "null time")),
        binary("empty time", "an empty header is absent", b"", result(timeless, "empty time")),
        binary("time", "binary mode", time.encode(), result(good, "time")),
        binary("no time", "a time that is none", b"soon", Dead("wrong_type")),
    ]


def _zoned(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"time": event["time"] + "Z"}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _at(ms: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
