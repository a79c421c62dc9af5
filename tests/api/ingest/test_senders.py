"""What a sender may write: realms, nodes, event ids and times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Clock
from tests.api.ingest.samples import AUTH0, FUSIONAUTH, KEYCLOAK, LOGIN, NOW, SECRET, SECRETS, SIGNUP, TOKEN, hook
from tests.api.ingest.sending import NATIVE, MakeSite
from tests.api.sources import by_file, listed


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


async def test_a_bearer_of_some_realms_names_no_node(make_site: MakeSite, tmp_path: Path) -> None:
    """The figures of a node belong to all realms, and so does the number of nodes that a shard knows."""
    limited = listed("acme's", scopes=["events:write"], realms=["acme"])
    site = await make_site(**by_file(tmp_path, limited, listed("any", scopes=["events:write"])))
    for token in ("acme's", "any"):
        sent = [event | {"realm": "acme", "node": "made up", "id": f"{token} 1"} for event in (LOGIN, TOKEN)]
        assert (await site.send(sent, token=token)).json["accepted"] == 2
    for event in ("login", "token"):
        assert sorted(record.value.get("node", "none") for record in site.holds(event)) == ["made up", "none"]


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
