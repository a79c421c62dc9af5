"""What is sent over HTTP, and what then lies in Kafka: read back from the embedded broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.conftest import Clock, Serve
from tests.api.ingest.sending import JSON, NATIVE, MakeSite, Sender, Site, key_of
from tests.api.sources import by_file, listed

NOW = "2026-11-20T10:00:00Z"
LOGIN = {"type": "login", "time": NOW, "user_id": "alice", "realm": "acme", "id": "a-1"}
TOKEN = {"type": "token", "time": NOW, "grant_type": "password", "tokens": ["access_token"], "id": "a-2"}
SIGNUP = {"type": "account", "time": NOW, "kind": "signup", "realm": "acme", "id": "a-3"}
BAD = {"type": "login", "time": "yesterday", "user_id": "alice"}
KEYCLOAK = {
    "id": "0f0e",
    "time": 1_795_168_800_000,
    "type": "LOGIN",
    "realmId": "r1",
    "realmName": "acme",
    "clientId": "web",
    "userId": "alice",
    "details": {"username": "alice@example.org"},
}
PASSWORD_GRANT = KEYCLOAK | {"id": "0f0f", "details": {"grant_type": "password", "token_id": "t"}}
LOGOUT = KEYCLOAK | {"id": "0f10", "type": "LOGOUT"}
AUTH0: dict[str, Any] = {
    "log_id": "9002",
    "data": {"type": "s", "date": NOW, "tenant_name": "acme", "client_id": "web", "user_id": "auth0|1"},
}
FUSIONAUTH: dict[str, Any] = {
    "event": {
        "id": "6b33",
        "createInstant": 1_795_168_800_000,
        "type": "user.login.success",
        "tenantId": "acme",
        "applicationId": "web",
        "user": {"id": "alice"},
    }
}
CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "01HZ",
    "source": "/idp/shop",
    "type": "io.identity.login.v1",
    "subject": "alice",
    "time": NOW,
    "datacontenttype": "application/json",
    "data": {"tenant": "acme", "client": "web", "outcome": "success"},
}


def hook(product: str, event_id: str) -> str:
    """The id of a webhook's event in Kafka."""
    return f"http:{product}:*:{product}:{event_id}"


SECRET = "a secret that no one guesses"


def lines(*events: object) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


async def test_an_event_is_in_kafka_as_our_own_json_when_it_is_answered(site: Site) -> None:
    answer = await site.send(LOGIN | {"password": "never kept"})
    assert (answer.status, answer.json) == (
        202,
        {
            "accepted": 1,
            "ignored": 0,
            "rejected": [],
            "warnings": [{"index": 0, "detail": "unknown field 'password'"}],
        },
    )
    (record,) = site.holds("login")
    assert record.key == key_of(f"{NATIVE}a-1")
    expected = LOGIN | {"id": f"{NATIVE}a-1"}
    assert {name: value for name, value in record.value.items() if value not in (None, True)} == expected


@pytest.mark.parametrize(
    ("media", "body", "why"),
    [
        ("application/json", json.dumps([LOGIN, TOKEN, SIGNUP]).encode(), "an array"),
        ("application/json", lines(LOGIN, TOKEN, SIGNUP), "lines, whatever they are called"),
        ("application/x-ndjson", lines(LOGIN, TOKEN, SIGNUP) + b"\n", "lines"),
        ("application/json; charset=utf-8", json.dumps([LOGIN, TOKEN, SIGNUP]).encode(), "a parameter"),
    ],
)
async def test_many_events_go_each_to_its_topic(site: Site, media: str, body: bytes, why: str) -> None:
    assert (await site.send(body, media=media)).json["accepted"] == 3, why
    assert site.held() == {"login": [f"{NATIVE}a-1"], "token": [f"{NATIVE}a-2"], "account": [f"{NATIVE}a-3"]}


@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain", "application/xml"])
async def test_another_media_type_is_refused_with_those_that_are_taken(site: Site, media: str) -> None:
    answer = await site.send(LOGIN, media=media)
    assert (answer.status, answer.headers["Content-Type"]) == (415, "application/problem+json")
    assert "application/json" in answer.json["detail"]


async def test_a_cloud_event_is_taken_in_every_mode(site: Site) -> None:
    others = [CLOUD_EVENT | {"id": "01J0"}, CLOUD_EVENT | {"id": "01J1"}]
    assert (await site.send(CLOUD_EVENT, media="application/cloudevents+json")).json["accepted"] == 1
    assert (await site.send(others, media="application/cloudevents-batch+json")).json["accepted"] == 2
    attributes = {f"ce-{name}": str(value) for name, value in CLOUD_EVENT.items() if name != "data"}
    percent = attributes | {"ce-id": "01J2", "ce-subject": "Zo%C3%AB"}
    assert (await site.send(CLOUD_EVENT["data"], headers=percent)).json["accepted"] == 1
    assert (await site.send(CLOUD_EVENT["data"], headers=attributes)).json["accepted"] == 1
    found = site.holds("login")
    assert sorted({record.value["user_id"] for record in found}) == ["Zoë", "alice"]
    # The structured one and the binary one are the same event.
    assert (len(found), len({record.value["id"] for record in found})) == (5, 4)


async def test_bad_elements_are_named_and_the_good_ones_taken(site: Site) -> None:
    answer = await site.send([LOGIN, BAD, 7, SIGNUP, {"type": "login", "time": NOW}])
    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["ignored"]) == (2, 0)
    result = [(rejection["index"], rejection["reason"]) for rejection in answer.json["rejected"]]
    assert result == [(1, "wrong_type"), (2, "not_an_object"), (4, "missing_field")]
    assert "user_id" in answer.json["rejected"][2]["detail"]
    assert site.held() == {"login": [f"{NATIVE}a-1"], "token": [], "account": [f"{NATIVE}a-3"]}


@pytest.mark.parametrize(
    ("body", "reason", "why"),
    [
        (json.dumps(BAD).encode(), "wrong_type", "a time that is none"),
        (json.dumps([BAD, BAD]).encode(), "wrong_type", "every one of several"),
        (b"{nope", "not_json", "no JSON"),
        (b"\xff\xfe", "not_json", "no UTF-8"),
        (b"", "not_json", "nothing"),
        (b"[" * 100_000, "not_an_object", "nested deeper than anything is read"),
        (json.dumps(LOGIN | {"id": "x" * 1025}).encode(), "too_long", "a limit"),
        (json.dumps(LOGIN | {"time": "1999-12-31T23:59:59Z"}).encode(), "impossible_time", "before 2000"),
    ],
)
async def test_nothing_but_bad_elements_is_a_400_that_names_them(
    site: Site, body: bytes, reason: str, why: str
) -> None:
    answer = await site.send(body)
    assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json"), why
    assert answer.json["rejected"][0] == {"index": 0, "reason": reason, "detail": answer.json["rejected"][0]["detail"]}
    assert site.held() == {"login": [], "token": [], "account": []}


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/v1/events", "application/json", b"[]"),
        ("/v1/events", "application/json", b" [ ] "),
        ("/v1/events", "application/cloudevents-batch+json", b"[]"),
        ("/v1/ingest/keycloak", "application/json", b"[]"),
        ("/v1/ingest/auth0", "application/json", b"[]"),
        ("/v1/ingest/fusionauth", "application/json", b"[]"),
    ],
)
async def test_a_body_without_events_is_a_400_with_an_example(
    site: Site, path: str, content_type: str, body: bytes
) -> None:
    answer = await site.send(body, path, headers={"Content-Type": content_type})
    assert answer.status == 400
    assert answer.json["detail"].startswith("The body contains no event. Example: [{")


async def test_an_event_too_far_ahead_of_now_is_rejected(site: Site, clock: Clock) -> None:
    at = datetime.fromtimestamp(clock.now, UTC)
    times = [(at + timedelta(hours=hours)).isoformat() for hours in (23, 25)]
    answer = await site.send([LOGIN | {"time": time} for time in times])
    assert [rejection["index"] for rejection in answer.json["rejected"]] == [1]


@pytest.mark.parametrize(
    ("way", "body", "expected"),
    [
        ("keycloak", KEYCLOAK, {"login": [hook("keycloak", "0f0e")]}),
        (
            "keycloak",
            PASSWORD_GRANT,
            {"login": [hook("keycloak", "0f0f")], "token": [hook("keycloak", "0f0f")]},
        ),
        ("keycloak", LOGOUT, {}),
        (
            "auth0",
            [AUTH0, AUTH0 | {"log_id": "9003"}],
            {"login": [hook("auth0", "9002"), hook("auth0", "9003")]},
        ),
        (
            "auth0",
            lines(AUTH0, AUTH0 | {"log_id": "9003"}),
            {"login": [hook("auth0", "9002"), hook("auth0", "9003")]},
        ),
        ("fusionauth", FUSIONAUTH, {"login": [hook("fusionauth", "6b33")]}),
    ],
)
async def test_a_webhook_becomes_events_of_ours(
    site: Site, way: str, body: Any, expected: dict[str, list[str]]
) -> None:
    answer = await site.send(body, f"/v1/ingest/{way}", media="text/whatever")
    assert answer.status == 202, answer.text
    assert answer.json["ignored"] == (0 if expected else 1)
    assert site.held() == {"login": [], "token": [], "account": []} | expected


async def test_an_event_sent_twice_has_the_same_id_key_and_partition(site: Site) -> None:
    for _ in range(3):
        for source, body in (("keycloak", PASSWORD_GRANT), ("auth0", [AUTH0]), ("fusionauth", FUSIONAUTH)):
            assert (await site.send(body, f"/v1/ingest/{source}")).status == 202
    for event, ids in (
        ("login", {hook("keycloak", "0f0f"), hook("auth0", "9002"), hook("fusionauth", "6b33")}),
        ("token", {hook("keycloak", "0f0f")}),
    ):
        found = site.holds(event)
        assert len(found) == 3 * len(ids)
        assert {(record.partition, record.key, record.value["id"]) for record in found} == {
            (next(record.partition for record in found if record.value["id"] == name), key_of(name), name)
            for name in ids
        }


async def test_an_event_without_id_has_no_key(site: Site) -> None:
    without = {name: value for name, value in LOGIN.items() if name != "id"}
    assert (await site.send([without, without])).json["accepted"] == 2
    assert [record.key for record in site.holds("login")] == [None, None]


SECRETS = {f"ingest_{source}_secret": SECRET for source in ("keycloak", "auth0", "fusionauth")}


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"Authorization": f"Bearer {SECRET}"}, 202, "as a bearer token"),
        ({"Authorization": SECRET}, 202, "as it is: Auth0's field takes any text"),
        ({"X-Webhook-Secret": SECRET}, 202, "in a header of its own"),
        ({"Authorization": "Bearer writer"}, 202, "a token with the scope instead"),
        ({"Authorization": "Bearer writer", "X-Webhook-Secret": "wrong"}, 202, "one of both is enough"),
        ({}, 401, "nothing"),
        ({"X-Webhook-Secret": SECRET[:-1]}, 401, "a part of it"),
        ({"X-Webhook-Secret": ""}, 401, "an empty one"),
        ({"Authorization": aiohttp.encode_basic_auth("keycloak", SECRET)}, 202, "as the password of Basic, any user"),
        ({"Authorization": aiohttp.encode_basic_auth("", SECRET)}, 202, "the same without a user"),
        ({"Authorization": aiohttp.encode_basic_auth(SECRET, "")}, 401, "as the user of Basic"),
        ({"Authorization": aiohttp.encode_basic_auth("keycloak", SECRET + "x")}, 401, "a longer password"),
        ({"Authorization": "Basic " + SECRET}, 401, "Basic without its encoding"),
        ({"Authorization": "Digest " + SECRET}, 401, "another scheme"),
        ({"X-API-Key": SECRET}, 401, "in a header that no setting names"),
        ({"Authorization": "Bearer reader"}, 403, "a token without the scope"),
    ],
)
async def test_a_webhook_is_let_in_by_its_secret_or_a_scope(
    make_site: MakeSite, tmp_path: Path, headers: dict[str, str], status: int, why: str
) -> None:
    tokens = by_file(tmp_path, listed("writer", scopes=["events:write"]), listed("reader", scopes=["stats:read"]))
    site = await make_site(**tokens, **SECRETS)
    for source, body in (("keycloak", KEYCLOAK), ("auth0", AUTH0), ("fusionauth", FUSIONAUTH)):
        answer = await site.send(body, f"/v1/ingest/{source}", headers=headers)
        assert answer.status == status, why
        assert status == 202 or answer.headers["Content-Type"] == "application/problem+json"
    assert len(site.holds("login")) == (3 if status == 202 else 0)


async def test_a_setting_names_the_header_of_the_secret(make_site: MakeSite, tmp_path: Path) -> None:
    tokens = by_file(tmp_path, listed("writer", scopes=["events:write"]))
    site = await make_site(**tokens, **SECRETS, ingest_secret_header="X-API-Key")
    for header, status in (("x-api-key", 202), ("Authorization", 202), ("X-Webhook-Secret", 401)):
        assert (await site.send(KEYCLOAK, "/v1/ingest/keycloak", headers={header: SECRET})).status == status, header


VYMALO = {"realmId": "acme", "id": "f1", "clientId": "web", "userId": "7d0a", "ipAddress": "192.0.2.1"}


async def test_a_listener_with_basic_authentication_and_a_base_url_is_accepted(
    make_site: MakeSite, tmp_path: Path
) -> None:
    # keycloak-webhook posts to its base URL with a slash appended, with the fields of its OpenAPI document.
    site = await make_site(**by_file(tmp_path, listed("writer", scopes=["events:write"])), **SECRETS)
    body = VYMALO | {"type": "LOGIN", "time": int(time.time() * 1000), "details": {"auth_method": "openid-connect"}}
    headers = {"Authorization": aiohttp.encode_basic_auth("keycloak", SECRET)}
    answer = await site.send(body, "/v1/ingest/keycloak/", headers=headers)
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    admin = VYMALO | {"type": "USER-CREATE", "time": int(time.time() * 1000), "resourcePath": "users/7d0a"}
    answer = await site.send(admin, "/v1/ingest/keycloak/", headers=headers)
    assert (answer.status, answer.json["ignored"]) == (202, 1)


async def test_a_webhooks_secret_opens_nothing_else(make_site: MakeSite, tmp_path: Path) -> None:
    site = await make_site(
        **by_file(tmp_path, listed("writer", scopes=["events:write"])), ingest_keycloak_secret=SECRET
    )
    for path in ("/v1/events", "/v1/ingest/auth0"):
        answer = await site.send(LOGIN, path, headers={"X-Webhook-Secret": SECRET})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="authtally"')
    assert (await site.send(LOGIN, token=SECRET)).status == 401
    assert (await site.send(LOGIN, token="writer")).status == 202


async def test_a_bearer_of_some_realms_writes_to_those_only(make_site: MakeSite, tmp_path: Path) -> None:
    tokens = by_file(
        tmp_path, listed("acme's", scopes=["events:write"], realms=["acme"]), listed("any", scopes=["events:write"])
    )
    site = await make_site(**tokens)
    sent = [LOGIN, LOGIN | {"realm": "globex", "id": "a-4"}, TOKEN, SIGNUP]
    answer = await site.send(sent, token="acme's")
    assert answer.json["accepted"] == 2
    assert [(each["index"], each["reason"]) for each in answer.json["rejected"]] == [(1, "realm"), (2, "realm")]
    assert (await site.send(sent[1], token="acme's")).status == 400
    # Ids of theirs cannot be those of anybody else.
    assert (await site.send([LOGIN, TOKEN], token="any")).json["accepted"] == 2
    own = "http:native:4:acme:"
    assert site.held() == {
        "login": [f"{NATIVE}a-1", f"{own}a-1"],
        "token": [f"{NATIVE}a-2"],
        "account": [f"{own}a-3"],
    }
    state = {"type": "otp", "time": NOW, "serial": "T1", "event": "token_init", "realms": ["acme"]}
    answer = await site.send(state | {"active": True, "assigned": False}, token="acme's")
    assert (answer.status, answer.json["rejected"][0]["reason"]) == (400, "realm")


async def test_no_sender_can_use_up_the_ids_of_another(make_site: MakeSite, tmp_path: Path) -> None:
    """All these events differ for somebody: none may be a duplicate of another."""
    realms = ("acme", "acme/b", "4", "*")
    tokens = by_file(
        tmp_path,
        *(listed(f"only-{number}", scopes=["events:write"], realms=[realm]) for number, realm in enumerate(realms)),
        listed("any", scopes=["events:write"]),
    )
    site = await make_site(**tokens, **SECRETS)
    sent = (("acme", "b/0"), ("acme/b", "0"), ("acme", ":b/0"), ("4", "acme:b/0"), ("*", "auth0:9002"))
    for realm, event_id in sent:
        event = LOGIN | {"realm": realm, "id": event_id}
        for token in (f"only-{realms.index(realm)}", "any"):
            assert (await site.send(event, token=token)).json["accepted"] == 1
    # What the webhook will send, guessed by senders of native events, and sent to another webhook.
    for event_id in ("auth0:9002", hook("auth0", "9002")):
        assert (await site.send(LOGIN | {"id": event_id}, token="any")).json["accepted"] == 1
    for way, body in (("auth0", [AUTH0]), ("keycloak", KEYCLOAK | {"id": "auth0:9002"}), ("fusionauth", FUSIONAUTH)):
        answer = await site.send(body, f"/v1/ingest/{way}", headers={"X-Webhook-Secret": SECRET})
        assert answer.json["accepted"] == 1
    found = site.holds("login")
    assert len({record.value["id"] for record in found}) == len({record.key for record in found}) == len(found) - 1, (
        "only `auth0:9002` of the sender of all realms was sent twice"
    )


@pytest.mark.parametrize(("realms", "prefix"), [(["acme"], "http:native:4:acme:"), (None, NATIVE)])
async def test_an_id_that_is_too_long_with_its_prefix_is_its_digest(
    make_site: MakeSite, tmp_path: Path, realms: list[str] | None, prefix: str
) -> None:
    limits: dict[str, Any] = {} if realms is None else {"realms": realms}
    site = await make_site(**by_file(tmp_path, listed("sender", scopes=["events:write"], **limits)))
    ids = ["x" * 1024, "x" * 1023 + "y", "é" * 512, "x" * 100]
    assert (await site.send([LOGIN | {"id": one} for one in ids], token="sender")).json["accepted"] == 4
    held = [record.value["id"] for record in site.holds("login")]
    assert len(set(held)) == 4
    assert all(one.startswith(prefix) and len(one.encode()) <= 1024 for one in held)
    assert prefix + ids[3] in held


WAYS_OLD = [
    pytest.param("/v1/events", lambda at: LOGIN | {"time": at.isoformat()}, id="native"),
    pytest.param(
        "/v1/ingest/keycloak", lambda at: KEYCLOAK | {"time": int(at.timestamp() * 1000)}, id="keycloak's webhook"
    ),
    pytest.param(
        "/v1/ingest/auth0", lambda at: AUTH0 | {"data": {**AUTH0["data"], "date": at.isoformat()}}, id="auth0's webhook"
    ),
    pytest.param(
        "/v1/ingest/fusionauth",
        lambda at: {"event": FUSIONAUTH["event"] | {"createInstant": int(at.timestamp() * 1000)}},
        id="fusionauth's webhook",
    ),
]


@pytest.mark.parametrize(("path", "made"), WAYS_OLD)
@pytest.mark.parametrize("limited", [False, True])
async def test_an_event_older_than_the_limit_is_rejected_by_index(
    make_site: MakeSite, tmp_path: Path, clock: Clock, path: str, made: Callable[[datetime], Any], limited: bool
) -> None:
    realms: dict[str, Any] = {"realms": ["acme"]} if limited else {}
    tokens = by_file(tmp_path, listed("sender", scopes=["events:write"], **realms))
    site = await make_site(**tokens, ingest_max_age_days=35)
    now = datetime.fromtimestamp(clock.now, UTC)
    old, young = (made(now - timedelta(days=35, seconds=seconds)) for seconds in (1, -1))
    refused = await site.send(old, path, token="sender")
    assert refused.status == 400
    (rejection,) = refused.json["rejected"]
    assert (rejection["index"], rejection["reason"]) == (0, "too_old")
    assert "AUTHTALLY_INGEST_MAX_AGE_DAYS" in rejection["detail"]
    assert "publish" in rejection["detail"]
    if path != "/v1/ingest/fusionauth":
        answer = await site.send([young, old, young] if path != "/v1/ingest/keycloak" else young, path, token="sender")
        assert [each["index"] for each in answer.json["rejected"]] == ([] if path == "/v1/ingest/keycloak" else [1])
    else:
        answer = await site.send(young, path, token="sender")
    assert answer.status == 202
    assert len(site.holds("login")) == answer.json["accepted"]


async def test_no_header_of_a_request_reaches_kafka(site: Site) -> None:
    """Neither can it choose a topic, a partition or a time, or make a dead letter that is not resent."""
    headers = {
        "authtally-topic": "elsewhere",
        "authtally-partition": "0",
        "authtally-offset": "7",
        "authtally-reason": "not_json",
        "kafka-topic": "elsewhere",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    binary = {f"ce-{name}": str(value) for name, value in CLOUD_EVENT.items() if name != "data"}
    binary |= {"ce-topic": "elsewhere", "ce_topic": "elsewhere"}
    assert (await site.send(LOGIN, headers=headers)).status == 202
    assert (await site.send(CLOUD_EVENT["data"], headers=headers | binary)).status == 202
    for way, body in (("keycloak", KEYCLOAK), ("auth0", [AUTH0]), ("fusionauth", FUSIONAUTH)):
        assert (await site.send(body, f"/v1/ingest/{way}", headers=headers)).status == 202
    found = site.holds("login")
    assert [record.headers for record in found] == [[]] * 5


async def test_an_event_that_no_topic_is_bound_to_is_rejected_whole(make_site: MakeSite) -> None:
    site = await make_site(bound=("login",))
    answer = await site.send([LOGIN, TOKEN])
    assert answer.json["accepted"] == 1
    (rejection,) = answer.json["rejected"]
    assert (rejection["index"], rejection["reason"]) == (1, "no_topic")
    assert "AUTHTALLY_TOPICS" in rejection["detail"]
    # A login and its tokens: half of it would not be seen to be missing.
    assert (await site.send(PASSWORD_GRANT, "/v1/ingest/keycloak")).status == 400
    assert len(site.holds("login")) == 1


async def test_without_ingest_there_is_no_way_in(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    async with aiohttp.ClientSession() as session:
        for path in ("/v1/events", "/v1/ingest/keycloak"):
            assert (await Sender(api.url, session)(LOGIN, path)).status == 404


async def test_a_bearer_of_some_realms_names_no_node(make_site: MakeSite, tmp_path: Path) -> None:
    """The figures of a node belong to all realms, and so does the number of nodes that a shard knows."""
    limited = listed("acme's", scopes=["events:write"], realms=["acme"])
    site = await make_site(**by_file(tmp_path, limited, listed("any", scopes=["events:write"])))
    for token in ("acme's", "any"):
        sent = [event | {"realm": "acme", "node": "made up", "id": f"{token} 1"} for event in (LOGIN, TOKEN)]
        assert (await site.send(sent, token=token)).json["accepted"] == 2
    for event in ("login", "token"):
        assert sorted(record.value.get("node", "none") for record in site.holds(event)) == ["made up", "none"]


MISSPELT = {"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "alice", "sucess": False}
SIMILAR = "unknown field 'sucess', similar to 'success'"
EXTENDED = {"specversion": "1.0", "id": "1", "source": "s", "type": "io.identity.login.v1", "myextension": "x"}


@pytest.mark.parametrize(
    ("body", "media", "warnings", "why"),
    [
        ([LOGIN, MISSPELT, MISSPELT], JSON, {1: SIMILAR, 2: SIMILAR}, "the fast path"),
        ([LOGIN | {"user_id": "é"}, MISSPELT], JSON, {1: SIMILAR}, "element by element"),
        (MISSPELT, JSON, {0: SIMILAR}, "one event"),
        (LOGIN | {"trace": {"id": 1}}, JSON, {0: "unknown field 'trace'"}, "no known field is similar"),
        (
            *(EXTENDED | {"data": {"user_id": "a", "sucess": False}}, "application/cloudevents+json", {0: SIMILAR}),
            "the data of a CloudEvent; its envelope may have extensions",
        ),
    ],
)
async def test_a_misspelt_field_is_taken_with_a_warning_or_refused(
    make_site: MakeSite, body: Any, media: str, warnings: dict[int, str], why: str
) -> None:
    site = await make_site()
    answer = await site.send(body, media=media)
    assert answer.status == 202, why
    assert {each["index"]: each["detail"] for each in answer.json["warnings"]} == warnings
    number = len(body) if isinstance(body, list) else 1
    assert (answer.json["accepted"], answer.json["rejected"]) == (number, [])
    strict = await make_site(ingest_strict=True)
    refused = await strict.send(body, media=media)
    rejected = refused.json["rejected"]
    assert {each["index"] for each in rejected} == set(warnings)
    assert {each["reason"] for each in rejected} == {"unknown_field"}
    assert all(each["detail"].endswith("(AUTHTALLY_INGEST_STRICT)") for each in rejected)
    assert refused.status == (202 if number > len(warnings) else 400)


async def test_correct_events_have_no_warnings_and_many_only_the_first(site: Site) -> None:
    assert "warnings" not in (await site.send([LOGIN, LOGIN])).json
    answer = await site.send([MISSPELT] * 500)
    assert answer.json["accepted"] == 500
    assert [each["index"] for each in answer.json["warnings"]] == list(range(100))
