"""What CloudEvents become, case by case."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any

import pytest

from schemas.events import AccountEvent, Event, Login, TokenIssued
from tests.schemas.adapters.cases import AT, AT_TEXT, RECORDED_AT, elements, events, refusal

BOM = b"\xef\xbb\xbf"
LOGIN = "io.identity.login.v1"
TOKEN = "io.identity.token.v1"
ACCOUNT = "io.identity.account.v1"
OF_WEB = {"realm": "shop", "client_id": "web"}
SHORT = {
    "tenant": "shop",
    "client": "web",
    "outcome": "success",
    "grant": "authorization_code",
    "tokens": {"access_token": 1, "id_token": 1, "refresh_token": 1},
}
NATIVE_TOKEN = {"realm": "shop", "client_id": "web", "grant_type": "password", "tokens": ["access_token"]}
Header = tuple[str, bytes | None]


def event(type_: str, data: object = None, **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "01HZ",
        "source": "/idp/shop",
        "type": type_,
        "subject": "alice",
        "time": AT_TEXT,
        "datacontenttype": "application/json",
        "partitionkey": "alice",
        "data": data,
    } | more


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


common: dict[str, Any] = {"time": AT, "realm": "shop", "client_id": "web", "id": "cloudevents:9:/idp/shop:01HZ"}
login = partial(Login, user_id="alice", **common)
token = partial(TokenIssued, user_id="alice", **common)
account = partial(AccountEvent, user_id="alice", **common)
ALL_THREE = ("access_token", "id_token", "refresh_token")


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (
            event(LOGIN, SHORT),
            [login(), token(grant_type="authorization_code", tokens=ALL_THREE)],
            "a login and the tokens that it gave",
        ),
        (event(LOGIN, without(SHORT, "tokens")), [login()], "a grant without named tokens"),
        (event(LOGIN), [Login(time=AT, user_id="alice", id=common["id"])], "no data: the subject signed in"),
        (without(event(LOGIN), "data"), [Login(time=AT, user_id="alice", id=common["id"])], "none at all"),
        (
            event(LOGIN, SHORT | {"outcome": "failure", "reason": "locked"}),
            [login(success=False, reason="locked")],
            "a failure issued nothing",
        ),
        (event(LOGIN, OF_WEB | {"user_id": "bob"}), [login(user_id="bob")], "data knows best"),
        (
            event(
                LOGIN,
                OF_WEB | {"success": True, "counted": False, "node": "n1", "type": "login"},
            ),
            [login(counted=False, node="n1")],
            "our own fields",
        ),
        (
            event(LOGIN, OF_WEB | {"time": "2025-12-31T00:00:00Z"}),
            [login()],
            "the envelope's time holds",
        ),
        (
            without(event(LOGIN, OF_WEB | {"time": "2026-01-01T01:00:00.123+01:00"}), "time"),
            [login()],
            "or the data's",
        ),
        (without(event(LOGIN, OF_WEB), "time"), [login(time=RECORDED_AT)], "or the record's"),
        (
            event(TOKEN, SHORT | {"tokens": {"access_token": 2, "id_token": 0}}),
            [token(grant_type="authorization_code", tokens=("access_token", "access_token"))],
            "so many of each kind",
        ),
        (event(TOKEN, NATIVE_TOKEN), [token(grant_type="password", tokens=("access_token",))], "our own fields"),
        (
            without(event(TOKEN, NATIVE_TOKEN), "subject"),
            [token(grant_type="password", tokens=("access_token",), user_id=None)],
            "tokens of no user",
        ),
        (event(ACCOUNT, {"tenant": "shop", "client": "web", "kind": "signup"}), [account(kind="signup")], "account"),
        (
            event(LOGIN, data_base64=base64.b64encode(json.dumps(SHORT).encode()).decode()),
            [login(), token(grant_type="authorization_code", tokens=ALL_THREE)],
            "data in base 64",
        ),
        (
            event(LOGIN, SHORT, datacontenttype="application/vnd.idp+json; charset=utf-8"),
            [login(), token(grant_type="authorization_code", tokens=ALL_THREE)],
            "JSON by another name",
        ),
        (event(LOGIN, json.dumps(OF_WEB)), [login()], "data that was serialized before the event"),
        (event(LOGIN, "\ufeff" + json.dumps(OF_WEB)), [login()], "with a byte order mark"),
        (event(LOGIN, "null"), [Login(time=AT, user_id="alice", id=common["id"])], "or with nothing in it"),
        (
            event(LOGIN, data_base64=base64.b64encode(BOM + json.dumps(OF_WEB).encode()).decode()),
            [login()],
            "a byte order mark in base 64",
        ),
        (
            event(TOKEN, SHORT | {"tokens": {"access_token": 2.0}}),
            [token(grant_type="authorization_code", tokens=("access_token", "access_token"))],
            "a whole number as a float",
        ),
        (event("user.created", {"object": {"user_id": "auth0|1"}}, a0tenant="t"), [], "another type of event"),
        (event("com.example.picture", "<xml/>", datacontenttype="text/xml"), [], "whatever it holds"),
    ],
)
def test_structured_events_become_ours(record: dict[str, Any], expected: list[Event], why: str) -> None:
    assert events("cloudevents", record) == expected, why


def test_a_batch_is_an_array() -> None:
    found = elements("cloudevents", [event(LOGIN, SHORT), event("x"), without(event(LOGIN), "id")])
    assert [one.index for one in found] == [0, 1, 2]
    assert [len(one.events) for one in found] == [2, 0, 0]
    assert found[2].bad is not None
    assert found[2].bad.reason == "missing_field"


def test_two_pairs_of_source_and_id_never_share_an_id() -> None:
    pairs = [("a:", "b"), ("a", ":b"), ("a:b", "c"), ("a", "b:c"), ("1:a", "b")]
    ids = {events("cloudevents", event(LOGIN, source=source, id=id_))[0].id for source, id_ in pairs}
    assert len(ids) == len(pairs)


KAFKA: list[Header] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"01HZ"),
    ("ce_source", b"/idp/shop"),
    ("ce_type", LOGIN.encode()),
    ("ce_subject", "jürgen %41".encode()),
    ("ce_time", AT_TEXT.encode()),
    ("content-type", b"application/json; charset=utf-8"),
]


def changed(**values: bytes | None) -> list[Header]:
    return [(name, values.get(name, value)) for name, value in KAFKA]


HTTP: list[Header] = [(name.replace("ce_", "Ce-"), value) for name, value in KAFKA if name != "ce_subject"]
BODY = {"tenant": "shop", "client": "web"}


@pytest.mark.parametrize(
    ("headers", "body", "expected", "why"),
    [
        (KAFKA, BODY, login(user_id="jürgen %41"), "Kafka's headers are plain UTF-8"),
        ([*HTTP, ("ce-subject", b"j%C3%BCrgen%20%2541")], BODY, login(user_id="jürgen %41"), "HTTP's are encoded"),
        ([*HTTP, ("CE-Subject", b"alice")], BODY, login(), "and in any case"),
        ([*HTTP, ("ce-subject", b"alice")], b"", Login(time=AT, user_id="alice", id=common["id"]), "no data"),
        ([("x", None), *KAFKA], BODY, login(user_id="jürgen %41"), "Kafka's headers may lack a value"),
        (changed(ce_time=None), BODY, login(user_id="jürgen %41", time=RECORDED_AT), "a null attribute is absent"),
        (changed(ce_time=b""), BODY, login(user_id="jürgen %41", time=RECORDED_AT), "so is an empty one"),
        ([*HTTP, ("ce-subject", b"")], BODY | {"user_id": "bob"}, login(user_id="bob"), "in HTTP too"),
        ([*KAFKA, ("ce_time", None)], BODY, login(user_id="jürgen %41"), "and takes nothing from an earlier one"),
        (
            changed(ce_specversion=None),
            event(LOGIN, SHORT | {"tokens": None}),
            login(),
            "without a version it is structured mode",
        ),
        (KAFKA, BOM + json.dumps(BODY).encode(), login(user_id="jürgen %41"), "a byte order mark before the data"),
        (KAFKA, json.dumps(json.dumps(BODY)).encode(), login(user_id="jürgen %41"), "data that is JSON text"),
    ],
)
def test_binary_mode_reads_its_headers(headers: list[Header], body: object, expected: Event, why: str) -> None:
    assert events("cloudevents", body, headers) == [expected], why


def test_structured_mode_is_recognised_by_its_content_type() -> None:
    headers = [*KAFKA[:4], ("Content-Type", b"application/cloudevents+json; charset=UTF-8")]
    assert events("cloudevents", event(LOGIN, SHORT), headers)[0] == login()


@pytest.mark.parametrize(
    ("record", "headers", "reason", "said"),
    [
        (without(event(LOGIN, SHORT), "specversion"), [], "missing_field", "specversion"),
        (event("x", source=""), [], "missing_field", "source"),
        (without(event(LOGIN, SHORT), "type"), [], "missing_field", "type"),
        (event(LOGIN, SHORT, specversion="0.3"), [], "wrong_type", "specversion"),
        (event(LOGIN, SHORT, time="yesterday"), [], "wrong_type", "time"),
        (event(LOGIN, SHORT, time="2026-02-01T00:00:00Z"), [], "impossible_time", "24 h"),
        (event(LOGIN, SHORT, datacontenttype="text/xml"), [], "wrong_type", "datacontenttype"),
        (event(LOGIN, "text"), [], "wrong_type", "data: "),
        (event(LOGIN, '{"user_id":7}'), [], "wrong_type", "user_id"),
        (event(LOGIN, json.dumps(json.dumps(OF_WEB))), [], "wrong_type", "data: "),
        (event(LOGIN, SHORT | {"tokens": {"access_token": 0.5}}), [], "wrong_type", "tokens"),
        (event(LOGIN, SHORT | {"tokens": {"access_token": 1e300}}), [], "too_long", "tokens"),
        ([], changed(ce_id=None), "missing_field", "id"),
        (without(event(LOGIN, {"tenant": "shop"}), "subject"), [], "missing_field", "user_id"),
        (event(LOGIN, SHORT | {"outcome": "maybe"}), [], "wrong_type", "outcome"),
        (event(LOGIN, without(SHORT, "grant")), [], "missing_field", "grant"),
        (event(LOGIN, SHORT | {"tokens": {"access_token": -1}}), [], "wrong_type", "tokens"),
        (event(LOGIN, SHORT | {"tokens": {"access_token": 10**100}}), [], "too_long", "tokens"),
        (event(LOGIN, SHORT | {"tokens": ["x"] * 17}), [], "too_long", "tokens"),
        (event(LOGIN, SHORT | {"tenant": "x" * 257}), [], "too_long", "realm"),
        (event(TOKEN, {"grant": "password"}), [], "missing_field", "tokens"),
        (event(TOKEN, SHORT | {"tokens": {"access_token": 0}}), [], "missing_field", "tokens"),
        (event(ACCOUNT, {"tenant": "shop"}), [], "missing_field", "kind"),
        (event(LOGIN, SHORT, id="x" * 1024), [], "too_long", "id"),
        (event(LOGIN, SHORT | {"outcome": "failure"}, id="x" * 1024), [], "too_long", "id"),
        (event(LOGIN, data_base64="@@"), [], "wrong_type", "data_base64"),
        (BODY, KAFKA[:2] + KAFKA[3:], "missing_field", "source"),
        (BODY, [*KAFKA, ("ce_time", b"yesterday")], "wrong_type", "time"),
        (b"<x/>", [*KAFKA[:6], ("content-type", b"text/xml")], "wrong_type", "datacontenttype"),
        (b"{", KAFKA, "not_json", "data: "),
        (event(LOGIN, data_base64="ezp9"), [], "not_json", "data: "),
        (None, KAFKA, "empty_value", "no value"),
        (None, [], "empty_value", "no value"),
    ],
)
def test_bad_events_say_why(record: object, headers: list[Header], reason: str, said: str) -> None:
    found, detail = refusal("cloudevents", record, headers)
    assert found == reason
    assert said in detail
