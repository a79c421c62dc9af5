"""CloudEvents 1.0 in JSON: structured, a batch, or binary mode (attributes in `ce_…` or `ce-…` headers).

We read three types. Their data is our native event without the fields of the envelope, or the short form
`{"tenant", "client", "outcome", "grant", "tokens": {kind: number}}`; a login may include its tokens.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import msgspec
from msgspec import Raw, Struct

from schemas.adapters.elements import Element, Headers, UnknownType
from schemas.adapters.framing import bad_element, element, elements
from schemas.adapters.timestamps import Number, from_text, whole
from schemas.decoding_errors import example_of
from schemas.events import (
    BOM,
    MAX_TOKENS,
    UNDECODABLE,
    AccountEvent,
    BadRecordError,
    Event,
    Login,
    RecordTime,
    TokenIssued,
    check,
    undecodable,
)

LOGIN: Final = "io.identity.login.v1"
TOKENS: Final = "io.identity.token.v1"
ACCOUNT: Final = "io.identity.account.v1"
TYPES: Final = frozenset({LOGIN, TOKENS, ACCOUNT})


class Attributes(Struct, frozen=True, gc=False):
    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None


class Envelope(Attributes, frozen=True, gc=False):
    """Structured mode: the attributes and the data in one object."""

    data: Raw = Raw(b"null")
    data_base64: bytes | None = None


class Data(Struct, frozen=True, gc=False):
    """Native and short field names; if both are given, the native one wins."""

    time: str | None = None
    user_id: str | None = None
    realm: str | None = None
    tenant: str | None = None
    client_id: str | None = None
    client: str | None = None
    node: str | None = None
    success: bool | None = None
    outcome: str | None = None
    counted: bool = True
    reason: str | None = None
    grant_type: str | None = None
    grant: str | None = None
    tokens: dict[str, Number] | list[str] | None = None
    kind: str | None = None


_OUTCOMES: Final = {None: True, "success": True, "failure": False}
_DECODE: Final = msgspec.json.Decoder(Envelope).decode
_DECODE_TEXT: Final = msgspec.json.Decoder(str).decode
_DECODE_DATA: Final = msgspec.json.Decoder(Data | None).decode


def cloudevents(value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
    """The adapter. Header names are case-insensitive; `ce-` headers are percent-decoded, as in the HTTP binding."""
    attributes, content_type = _header_attributes(headers)
    if "specversion" not in attributes or content_type.startswith("application/cloudevents"):
        return elements(_read, value, at)
    if value is None:
        return [bad_element(0, None, undecodable(None, None))]

    def read(raw: bytes, at: RecordTime) -> tuple[Event, ...] | UnknownType:
        envelope = msgspec.convert({"datacontenttype": content_type or None} | attributes, Attributes)
        # In HTTP an empty body means no data.
        return _events(envelope, raw or b"null", at)

    return [element(read, 0, value, at)]


def _header_attributes(headers: Headers) -> tuple[dict[str, str], str]:
    """The CloudEvents attributes in the headers, by name, and the content type."""
    attributes: dict[str, str] = {}
    content_type = ""
    for name, value in headers:
        name = name.lower()
        if not value:
            # CloudEvents' Kafka binding: an attribute without a value is absent.
            continue
        # A byte that is not UTF-8 must not reject the event.
        text = value.decode("utf-8", "replace")
        if name.startswith("ce_"):
            attributes[name[3:]] = text
        elif name.startswith("ce-"):
            attributes[name[3:]] = unquote(text)
        elif name == "content-type":
            content_type = text.strip().lower()
    return attributes, content_type


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...] | UnknownType:
    envelope = _DECODE(raw)
    return _events(envelope, envelope.data if envelope.data_base64 is None else envelope.data_base64, at)


def _events(envelope: Attributes, raw: bytes | Raw, at: RecordTime) -> tuple[Event, ...] | UnknownType:
    for name in ("specversion", "id", "source", "type"):
        if not getattr(envelope, name):
            raise BadRecordError("missing_field", f"the CloudEvents attribute `{name}` is missing or empty")
    if envelope.specversion != "1.0":
        raise BadRecordError("wrong_type", "`specversion` is not 1.0, the only version that is read")
    if envelope.type not in TYPES:
        return UnknownType.of(envelope.type or "")
    if not _is_json(envelope.datacontenttype):
        raise BadRecordError(
            "wrong_type", "`datacontenttype` is not JSON; allowed: application/json, or one that ends in +json"
        )
    data = _data(bytes(raw).removeprefix(BOM))
    return tuple([check(event) for event in _to_events(envelope, data, at)])


def _data(raw: bytes) -> Data:
    """Data as an object, or as a string that contains JSON, from producers that serialize the data first."""
    try:
        return _DECODE_DATA(raw) or Data()
    except UNDECODABLE as error:
        envelope: Exception = error
    try:
        text = _DECODE_TEXT(raw)
    except UNDECODABLE:
        text = ""
    if text:
        try:
            return _DECODE_DATA(text.removeprefix("\ufeff")) or Data()
        except msgspec.ValidationError as error:
            envelope = error
        except UNDECODABLE:
            # The string is no JSON; report the first error, which says that an object is expected.
            pass
    bad = undecodable(b"", envelope)
    raise BadRecordError(bad.reason, f"data: {bad.detail}")


def _to_events(envelope: Attributes, data: Data, at: RecordTime) -> tuple[Event, ...]:
    time = from_text(envelope.time or data.time, at)
    # The length separates (source, id) pairs whose concatenation would be equal.
    id = f"cloudevents:{len(envelope.source or '')}:{envelope.source}:{envelope.id}"  # noqa: A001
    realm, client_id = data.realm or data.tenant or None, data.client_id or data.client or None
    user_id = data.user_id or envelope.subject or None
    if envelope.type == ACCOUNT:
        if not data.kind:
            raise BadRecordError("missing_field", f"`data.kind` is missing{example_of('kind')}")
        return (AccountEvent(time=time, kind=data.kind, realm=realm, client_id=client_id, user_id=user_id, id=id),)
    events: tuple[Event, ...] = ()
    tokens = _tokens(data.tokens)
    if envelope.type == LOGIN:
        if data.outcome not in _OUTCOMES:
            raise BadRecordError("wrong_type", "`data.outcome` has another value; allowed: success, failure")
        success = _OUTCOMES[data.outcome] if data.success is None else data.success
        events = (
            Login(
                time=time,
                user_id=user_id or "",
                success=success,
                counted=data.counted,
                realm=realm,
                client_id=client_id,
                node=data.node or None,
                reason=data.reason or None,
                id=id,
            ),
        )
        if not (success and tokens):
            return events
    elif not tokens:
        raise BadRecordError("missing_field", f"`data.tokens` is missing or empty{example_of('tokens')}")
    grant_type = data.grant_type or data.grant
    if not grant_type:
        raise BadRecordError("missing_field", f"`data.grant_type` is missing{example_of('grant_type')}")
    return (
        *events,
        TokenIssued(
            time=time,
            grant_type=grant_type,
            tokens=tokens,
            realm=realm,
            client_id=client_id,
            node=data.node or None,
            user_id=user_id,
            id=id,
        ),
    )


def _tokens(tokens: dict[str, Number] | list[str] | None) -> tuple[str, ...]:
    if tokens is None:
        return ()
    if isinstance(tokens, dict):
        numbers = {kind: whole(number, "an entry of data.tokens") for kind, number in tokens.items()}
        if any(number < 0 for number in numbers.values()):
            raise BadRecordError("wrong_type", "`data.tokens` has a negative number")
        number = sum(numbers.values())
    else:
        number = len(tokens)
    if number > MAX_TOKENS:
        raise BadRecordError("too_long", f"`data.tokens` has too many entries; allowed: at most {MAX_TOKENS}")
    if isinstance(tokens, dict):
        return tuple(kind for kind, times in numbers.items() for _ in range(times))
    return tuple(tokens)


def _is_json(content_type: str | None) -> bool:
    if not content_type:
        return True
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))
