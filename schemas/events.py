"""The events that auth servers publish, and the one place that decodes bytes to typed values.

A Kafka value is one flat JSON object in UTF-8; unknown fields are ignored. On a topic bound to one event
the field `type` is optional; if present, it must name that event.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_type_hints

import msgspec
from msgspec import Meta, Struct

from schemas.decoding_errors import describe, example_of
from schemas.ledger import inventory
from schemas.ledger.fields import FAILURE_KINDS
from schemas.ledger.inventory import micros
from schemas.ledger.scopes import OTHER
from schemas.time.rfc3339 import cut_time

# An auth event from before 2000 comes from a wrong clock: no product that we read is that old.
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
# An event's time may be at most this far ahead of its Kafka record's timestamp.
MAX_AHEAD: Final = timedelta(hours=24)

MAX_ID_BYTES: Final = 1024
MAX_LABEL_BYTES: Final = 256
MAX_TEXT_BYTES: Final = 8192
"""LinOTP's longest columns have 2,000 characters of up to four bytes."""
MAX_TOKENS: Final = 16
MAX_REALMS: Final = 64
MAX_COUNT: Final = 2**32 - 1

# A text of this length fits MAX_ID_BYTES with any characters (UTF-8 needs at most four bytes each).
SAFE_ID_CHARS: Final = MAX_ID_BYTES // 4
SAFE_LABEL_CHARS: Final = MAX_LABEL_BYTES // 4

Id = Annotated[str, Meta(max_length=MAX_ID_BYTES, description="At most 1,024 bytes in UTF-8.")]
Label = Annotated[str, Meta(max_length=MAX_LABEL_BYTES, description="At most 256 bytes in UTF-8.")]
Text = Annotated[str, Meta(max_length=MAX_TEXT_BYTES, description="At most 8,192 bytes in UTF-8.")]
Time = Annotated[
    datetime,
    Meta(
        tz=True,
        description="RFC 3339 with offset; decides day and month. Not before 2000, at most 24 h ahead of the record.",
    ),
]


class Login(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="login"):
    """One attempt to sign in.

    A success makes the user active and counts a login; with `counted=false` it only makes the user active (a session
    renewed without a prompt). A failure counts with its reason and never makes a user active.
    """

    time: Time
    user_id: Id
    success: bool = True
    counted: bool = True
    realm: Label | None = None
    client_id: Label | None = None
    node: Label | None = None
    reason: Label | None = None
    id: Id | None = None


class TokenIssued(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="token"):
    """One answer of the token endpoint: each entry of `tokens` counts once under `grant_type`.

    A refresh that names its user makes the user active (as Janssen counts since 2022); client_credentials
    never does, since a service account is not a user.
    """

    time: Time
    grant_type: Label
    tokens: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=MAX_TOKENS)]
    realm: Label | None = None
    client_id: Label | None = None
    node: Label | None = None
    user_id: Id | None = None
    id: Id | None = None


class AccountEvent(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="account"):
    """An event about an account or a client: one count per `kind`, never activity."""

    time: Time
    kind: Label
    realm: Label | None = None
    client_id: Label | None = None
    user_id: Id | None = None
    id: Id | None = None


class OtpTokenState(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="otp"):
    """The state of a one-time-password token (hardware or app) after an event.

    Per serial the latest `time` wins; if times are equal, the later record wins. A token in no realm counts under
    LinOTP's `/:no realm:/`. `user_id` is the assigned user; `event` is LinOTP's word, such as `token_init`. States with
    the same `event_id` are one event that changed several tokens: one row per realm, if they follow one another.
    """

    time: Time
    serial: Label
    event: Label
    realms: Annotated[tuple[Label, ...], Meta(max_length=MAX_REALMS)]
    active: bool
    assigned: bool
    user_id: Id | None = None
    deleted: bool = False
    event_id: Id | None = None
    id: Id | None = None


class OtpTokenCount(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="otp-count"):
    """A row of LinOTP's own reporting table, kept as given: the `count` of tokens of `status` in `realm` after `event`.

    `status` is `total`, `active`, `inactive`, `assigned`, `unassigned`, a pair such as `active&assigned` in either
    order, or `total users`. `value`, `detail`, `session` and `description` are the table's other columns.
    """

    time: Time
    realm: Label
    event: Label
    status: Label
    count: Annotated[int, Meta(ge=0, le=MAX_COUNT)]
    value: Text = ""
    detail: Text = ""
    session: Text = ""
    description: Text = ""
    id: Id | None = None


Inventory = OtpTokenState | OtpTokenCount
"""Events whose order matters: their topic has one partition and is bound to them."""
Counted = Login | TokenIssued | AccountEvent
"""Events that add up in any order."""
Event = Counted | Inventory

EVENTS: Final[dict[str, type[Event]]] = {
    "login": Login,
    "token": TokenIssued,
    "account": AccountEvent,
    "otp": OtpTokenState,
    "otp-count": OtpTokenCount,
}
"""Event types by the name that `TOPICS` uses."""

DECODERS: Final = {name: msgspec.json.Decoder(event) for name, event in EVENTS.items()}

ANY: Final = "native"
"""The name for events of any type, each with its `type`."""
_STRICT: Final[dict[str, msgspec.json.Decoder[Any]]] = {**DECODERS, ANY: msgspec.json.Decoder(Event)}

BOM: Final = b"\xef\xbb\xbf"
"""Some editors and serializers write it before JSON in UTF-8."""

REASONS: Final = {
    "empty_value": "the record has no value (a tombstone)",
    "not_json": "the value is not JSON in UTF-8",
    "not_an_object": "the value is JSON but not an object",
    "missing_field": "a required field is missing or empty",
    "wrong_type": "a field has a type or format that the schema does not allow",
    "too_long": "a field is longer than its limit",
    "impossible_time": "the time is before 2000 or more than 24 h ahead of the record's timestamp",
    "no_time": "the event has no time, and the record's timestamp is not usable instead",
    "unexpected": "a defect in this version prevented the count of the record; the log has its traceback",
    "wrong_topic": "an OTP token event, whose order matters, on a topic that is not bound to such events",
}
"""The reasons of dead letters: the code in the record's header, and its meaning."""


_EARLIEST_MS: Final = int(EARLIEST.timestamp() * 1000)
_MAX_AHEAD_MS: Final = int(MAX_AHEAD.total_seconds() * 1000)


class RecordTime(NamedTuple):
    """The time against which the events of a record are checked."""

    ms: int
    """Unix ms: the record's timestamp if it is usable, else the store's clock."""
    usable: bool = True
    """False for an untimed record: an event without its own time is then a dead letter `no_time`."""

    @classmethod
    def of(cls, timestamp_ms: int, clock_ms: int) -> RecordTime:
        """A Kafka timestamp (any 64-bit number) is usable from 2000 to 24 h ahead of the store's clock; both in ms."""
        if _EARLIEST_MS <= timestamp_ms <= clock_ms + _MAX_AHEAD_MS:
            return cls(timestamp_ms)
        return cls(clock_ms, usable=False)


class NativeValidationError(msgspec.ValidationError):
    """msgspec's error for a value that should be a native event, with the allowed values of `type`."""

    def __init__(self, text: str, types: tuple[str, ...]) -> None:
        super().__init__(text)
        self.types = types


class BadRecordError(Exception):
    """A record that cannot be counted. `reason` is a key of REASONS, `detail` one line for operators.

    `detail` names fields and limits, never values, because it is written to headers and logs.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def undecodable(value: bytes | None, error: Exception | None) -> BadRecordError:
    """Convert the exception of a decoder for `value` to a dead-letter reason.

    msgspec's validation errors differ only in their text; a test pins each text used here.
    """
    if value is None:
        return BadRecordError("empty_value", REASONS["empty_value"])
    if not isinstance(error, msgspec.ValidationError):
        # Bad syntax, bad UTF-8, or nesting deeper than the interpreter's stack (RecursionError).
        if isinstance(error, UnicodeDecodeError):
            return BadRecordError("not_json", f"the text is not UTF-8 ({error.reason})")
        text = str(error) if isinstance(error, msgspec.DecodeError) else "the value is nested too deeply"
        return BadRecordError("not_json", text)
    detail = describe(error, value, error.types if isinstance(error, NativeValidationError) else ())
    return BadRecordError(_reason(str(error)), detail)


def _reason(text: str) -> str:
    if text.startswith("Object missing required field"):
        return "missing_field"
    if text.startswith("Expected `object`") and " - at " not in text:
        return "not_an_object"
    return "too_long" if "of length <=" in text else "wrong_type"


UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The exceptions of a decoder for bytes from outside."""


_TIMES: Final = "allowed: from 2000-01-01T00:00:00Z to 24 h after the record's timestamp"
TOO_EARLY: Final = f"the time is before 2000; {_TIMES}"
TOO_LATE: Final = f"the time is more than 24 h ahead of the record's timestamp; {_TIMES}"
_STATUS: Final = (
    f"`status` is unknown; allowed: {', '.join(inventory.STATUSES)}, {inventory.TOTAL_USERS}{example_of('status')}"
)

AnEvent = TypeVar("AnEvent", bound=Event)


def is_failure(event: Event) -> bool:
    """Whether an attacker may have typed its fields."""
    return (isinstance(event, Login) and not event.success) or (
        isinstance(event, AccountEvent) and event.kind in FAILURE_KINDS
    )


def check(event: AnEvent) -> AnEvent:
    """Check what the decoder cannot express: lengths in bytes, and a success without a user. Raises BadRecordError.

    Returns the event to count. In a failure, labels over their limit become OTHER, and a user_id over it is dropped.
    """
    try:
        _check(event)
    except BadRecordError as bad:
        if bad.reason != "too_long" or not is_failure(event):
            raise
        event = _shortened(event)
        _check(event)
    return event


def _shortened(event: Any) -> Any:
    changes: dict[str, str | None] = {
        name: OTHER for name in ("realm", "client_id", "node", "reason") if _is_long(getattr(event, name, None))
    }
    if _is_long(event.user_id, MAX_ID_BYTES):
        changes["user_id"] = "" if isinstance(event, Login) else None
    return msgspec.structs.replace(event, **changes)


def _check(event: Event) -> None:
    if isinstance(event, Login):
        if event.success and not event.user_id:
            raise BadRecordError("missing_field", f"`user_id` is empty in a successful login{example_of('user_id')}")
        labels, last = (event.realm, event.client_id, event.node, event.reason), "reason"
    elif isinstance(event, TokenIssued):
        if not event.grant_type:
            raise _empty_error("grant_type")
        labels, last = (event.realm, event.client_id, event.node, event.grant_type), "grant_type"
        for token in event.tokens:
            if not token:
                raise _empty_error("tokens", "has an empty entry")
            _check_bytes(token, MAX_LABEL_BYTES, "tokens")
    elif isinstance(event, (OtpTokenState, OtpTokenCount)):
        _check_inventory(event)
        return
    else:
        if not event.kind:
            raise _empty_error("kind")
        labels, last = (event.realm, event.client_id, None, event.kind), "kind"
    for name, label in zip(("realm", "client_id", "node", last), labels, strict=True):
        _check_bytes(label, MAX_LABEL_BYTES, name)
    _check_bytes(event.user_id, MAX_ID_BYTES, "user_id")
    _check_bytes(event.id, MAX_ID_BYTES, "id")


def _is_short(event: OtpTokenState) -> bool:
    """Fast path: whether all fields are present and short enough for any characters, as in nearly all events."""
    serial, name, user_id, id_, event_id = event.serial, event.event, event.user_id, event.id, event.event_id
    if not serial or len(serial) > SAFE_LABEL_CHARS or not name or len(name) > SAFE_LABEL_CHARS:
        return False
    for realm in event.realms:
        if not realm or len(realm) > SAFE_LABEL_CHARS:
            return False
    return (
        (user_id is None or len(user_id) <= SAFE_ID_CHARS)
        and (id_ is None or len(id_) <= SAFE_ID_CHARS)
        and (event_id is None or len(event_id) <= SAFE_ID_CHARS)
    )


def _check_inventory(event: Inventory) -> None:
    if isinstance(event, OtpTokenState):
        if _is_short(event):
            return
        named = [("serial", event.serial), ("event", event.event), *(("realms", realm) for realm in event.realms)]
        _check_bytes(event.user_id, MAX_ID_BYTES, "user_id")
        _check_bytes(event.event_id, MAX_ID_BYTES, "event_id")
    else:
        for name in ("value", "detail", "session", "description"):
            _check_bytes(getattr(event, name), MAX_TEXT_BYTES, name)
        named = [("realm", event.realm), ("event", event.event), ("status", event.status)]
        if inventory.canonical_status(event.status) is None:
            raise BadRecordError("missing_field" if not event.status else "wrong_type", _STATUS)
    for name, label in named:
        if not label:
            raise _empty_error(name, "has an empty entry" if name == "realms" else "is empty")
        _check_bytes(label, MAX_LABEL_BYTES, name)
    _check_bytes(event.id, MAX_ID_BYTES, "id")


def _is_long(text: str | None, limit: int = MAX_LABEL_BYTES) -> bool:
    return text is not None and len(text) * 4 > limit and len(text.encode()) > limit


def _check_bytes(text: str | None, limit: int, name: str) -> None:
    if _is_long(text, limit):
        raise BadRecordError("too_long", f"`{name}` is too long; allowed: at most {limit} bytes in UTF-8")


def _empty_error(name: str, fault: str = "is empty") -> BadRecordError:
    return BadRecordError("missing_field", f"`{name}` {fault}{example_of(name)}")


def check_time(time: datetime, at: RecordTime) -> None:
    """Raise BadRecordError for an impossible time; any year and any `at.ms` are safe."""
    if time < EARLIEST:
        raise BadRecordError("impossible_time", TOO_EARLY)
    if micros(time) > (at.ms + _MAX_AHEAD_MS) * 1000:
        raise BadRecordError("impossible_time", TOO_LATE)


def _without_limits(event: type[Login | AccountEvent]) -> Any:
    """The same event without length limits, because msgspec refuses long texts in failures too."""
    # The limits are annotations; the one of `time` requires an offset and stays.
    hints = get_type_hints(event) | {"time": Time}
    fields = [
        (field.name, hints[field.name], *(() if field.required else (field.default,)))
        for field in msgspec.structs.fields(event)
    ]
    return msgspec.defstruct(event.__name__, fields, tag_field="type", tag=event.__struct_config__.tag)


_LONG_LOGIN: Final = _without_limits(Login)
_LONG_ACCOUNT: Final = _without_limits(AccountEvent)
_LENIENT: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "login": msgspec.json.Decoder(_LONG_LOGIN),
    "account": msgspec.json.Decoder(_LONG_ACCOUNT),
    ANY: msgspec.json.Decoder(_LONG_LOGIN | _LONG_ACCOUNT),
}


def read_native(name: str, value: bytes) -> Event:
    """Decode a native event, cut its time and check its fields, but not the time; `name` is a key of EVENTS, or ANY.

    Raises BadRecordError, or what UNDECODABLE lists.
    """
    event: Event
    try:
        event = _STRICT[name].decode(value)
    except msgspec.ValidationError as error:
        native = NativeValidationError(str(error), tuple(EVENTS) if name == ANY else (name,))
        if "of length <=" not in str(error) or name not in _LENIENT:
            raise native from None
        event = _with_long_fields(name, value, native)
    time = cut_time(event.time, value)
    if time is not event.time:
        event = msgspec.structs.replace(event, time=time)
    return check(event)


def _with_long_fields(name: str, value: bytes, error: msgspec.ValidationError) -> Login | AccountEvent:
    try:
        long = _LENIENT[name].decode(value)
    except msgspec.ValidationError:
        # Another event, or one with a second fault.
        raise error from None
    event = (Login if isinstance(long, _LONG_LOGIN) else AccountEvent)(**msgspec.structs.asdict(long))
    if not is_failure(event):
        raise error
    return event


def decode_native(name: str, value: bytes | None) -> Event:
    """`read_native` for the value of a record: a BOM before it is skipped. Raises BadRecordError only."""
    try:
        return read_native(name, (value or b"").removeprefix(BOM))
    except UNDECODABLE as error:
        raise undecodable(value, error) from error


def decode(name: str, value: bytes | None, at: RecordTime) -> Event:
    """Decode and check one value of a topic bound to `name` (a key of EVENTS). Raises BadRecordError."""
    event = decode_native(name, value)
    check_time(event.time, at)
    return event
