"""What is sent over HTTP, and what then lies in Kafka: read back from the embedded broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from tests.api.conftest import Clock, Serve
from tests.api.ingest.samples import (
    AUTH0,
    CLOUD_EVENT,
    FUSIONAUTH,
    KEYCLOAK,
    LOGIN,
    NOW,
    PASSWORD_GRANT,
    SIGNUP,
    TOKEN,
    hook,
    lines,
)
from tests.api.ingest.sending import JSON, NATIVE, MakeSite, Sender, Site, key_of

BAD = {"type": "login", "time": "yesterday", "user_id": "alice"}


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
