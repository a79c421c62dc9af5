"""deploy/publishers, as far as it goes without the products: the scripts in a JVM, Keycloak's settings as text."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.demo.servers import free_port
from schemas.adapters.keycloak import COUNTED, RULES
from schemas.adapters.native import native
from schemas.adapters.registry import ADAPTERS
from schemas.events import RecordTime
from schemas.settings import KafkaSettings, read
from tests.conftest import wait_until
from tests.deploy.publishers.auth_server import GLUU, JANSSEN, PUBLISHERS, AuthServer, Ingest, compiled
from tests.servers import JavaMissingError

# The first run on a machine fetches Jython.
pytestmark = pytest.mark.timeout(600)

UPDATE: Final = "UpdateToken"
POST: Final = "PostAuthn"
NOBODY_WAITS_S: Final = 0.5
"""Far below any timeout of the scripts, and enough for a busy machine."""


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compiled(tmp_path_factory.mktemp("classes"))
    except JavaMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module", params=[JANSSEN, GLUU], ids=["janssen", "gluu"])
def server(
    request: pytest.FixtureRequest, classes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AuthServer]:
    server = AuthServer(request.param, classes, tmp_path_factory.mktemp("scripts") / "scripts.log")
    yield server
    server.close()


@pytest.fixture
def auth(server: AuthServer) -> Iterator[AuthServer]:
    yield server
    server.renew()


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with Ingest() as server:
        yield server


Init = Callable[..., bool]


@pytest.fixture
def init(auth: AuthServer, ingest: Ingest) -> Init:
    """Starts a script with the attributes that it needs, and any others."""

    def start(script: str, **attributes: str) -> bool:
        given = {"url": ingest.url, "token": "secret", "node": "as1"} | attributes
        started: bool = auth.do("init", script, attributes=given).answer
        return started

    return start


def without_ids(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what differs each time."""
    return {name: value for name, value in event.items() if name not in ("id", "time")}


def now_ms() -> int:
    return int(time.time() * 1000)


def test_janssen_gets_one_class(classes: Path) -> None:
    """Its compiler refuses a script that makes more."""
    assert [path.name for path in (classes / "script").iterdir()] == ["AuthtallyPublisher.class"]


def test_tokens_are_published_by_grant_and_kind(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    assert init(UPDATE, realm="acme")
    before = datetime.now(UTC)
    grant = {"grant": "authorization_code", "user": "älice", "client": "web", "grant_type": "authorization_code"}
    for kind in ("Access", "Refresh", "Id"):
        assert auth.do(f"modify{kind}Token", UPDATE, **grant).answer is True
    assert auth.do("modifyAccessToken", UPDATE, grant="client_credentials", client="batch").answer is True
    wait_until(lambda: len(ingest.events) == 4)
    own = {"type": "token", "realm": "acme", "node": "as1"}
    code = own | {"grant_type": "authorization_code", "client_id": "web", "user_id": "älice"}
    assert [without_ids(event) for event in ingest.events] == [
        code | {"tokens": ["access_token"]},
        code | {"tokens": ["refresh_token"]},
        code | {"tokens": ["id_token"]},
        own | {"grant_type": "client_credentials", "client_id": "batch", "tokens": ["access_token"]},
    ]
    assert len({event["id"] for event in ingest.events}) == 4
    times = [datetime.fromisoformat(event["time"]) for event in ingest.events]
    assert abs((times[0] - before).total_seconds()) < 30
    (request, *_) = ingest.requests
    assert request.path == "/v1/events"
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/json"


def test_what_is_published_is_what_the_api_takes(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    init(UPDATE)
    init(POST)
    auth.do("modifyAccessToken", UPDATE, grant="password", user="alice", client="web", grant_type="refresh_token")
    auth.do("forceReAuthentication", POST, session="s", user="alice", client="web", at=now_ms())
    wait_until(lambda: len(ingest.events) == 3)
    elements = native(json.dumps(ingest.events).encode(), (), RecordTime(now_ms()))
    assert [element.bad for element in elements] == [None] * 3


@pytest.mark.parametrize(
    ("refresh_as", "expected"),
    [
        (
            "original",
            [
                {"type": "login", "user_id": "alice", "counted": False},
                {"type": "token", "grant_type": "authorization_code", "user_id": "alice", "tokens": ["access_token"]},
                {"type": "token", "grant_type": "authorization_code", "user_id": "alice", "tokens": ["refresh_token"]},
                {"type": "token", "grant_type": "authorization_code", "tokens": ["access_token"]},
            ],
        ),
        (
            "refresh_token",
            [
                {"type": "token", "grant_type": "refresh_token", "user_id": "alice", "tokens": ["access_token"]},
                {"type": "token", "grant_type": "refresh_token", "user_id": "alice", "tokens": ["refresh_token"]},
                {"type": "token", "grant_type": "refresh_token", "tokens": ["access_token"]},
            ],
        ),
    ],
)
def test_a_refresh_is_activity_under_either_grant(
    auth: AuthServer, ingest: Ingest, init: Init, refresh_as: str, expected: list[dict[str, Any]]
) -> None:
    init(UPDATE, refresh_as=refresh_as)
    refresh = {"grant": "authorization_code", "client": "web", "grant_type": "refresh_token"}
    auth.do("modifyAccessToken", UPDATE, user="alice", **refresh)
    auth.do("modifyRefreshToken", UPDATE, user="alice", **refresh)
    auth.do("modifyAccessToken", UPDATE, **refresh)
    wait_until(lambda: len(ingest.events) == len(expected))
    common = {"client_id": "web", "node": "as1"}
    assert [without_ids(event) for event in ingest.events] == [common | event for event in expected]


def test_a_login_is_published_with_one_id_however_often_its_session_is_asked_about(
    auth: AuthServer, ingest: Ingest, init: Init
) -> None:
    init(POST, login_age_s="60")
    at = now_ms() - 5_000
    session = {"session": "opens everything", "user": "alice", "at": at}
    for client in ("web", "app"):
        assert auth.do("forceReAuthentication", POST, client=client, **session).answer is False
        assert auth.do("forceAuthorization", POST, client=client, **session).answer is False
    again = session | {"at": at + 1}
    auth.do("forceReAuthentication", POST, client="web", **again)
    auth.do("forceReAuthentication", POST, session="other", auth_user="bob", at=at)
    auth.do("forceReAuthentication", POST, client="web", **session | {"at": now_ms() - 61_000})
    auth.do("forceReAuthentication", POST, session="not yet")
    auth.do("forceReAuthentication", POST, session="nobody", at=at)
    auth.do("forceReAuthentication", POST, session="last", user="carol", at=at)
    wait_until(lambda: any(event["user_id"] == "carol" for event in ingest.events))
    login = {"type": "login", "node": "as1"}
    assert [without_ids(event) for event in ingest.events] == [
        login | {"user_id": "alice", "client_id": "web"},
        login | {"user_id": "alice", "client_id": "app"},
        login | {"user_id": "alice", "client_id": "web"},
        login | {"user_id": "bob"},
        login | {"user_id": "carol"},
    ]
    ids = [event["id"] for event in ingest.events]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert "opens" not in json.dumps(ingest.events), "who knows a session's id has the session"
    assert datetime.fromisoformat(ingest.events[0]["time"]).timestamp() * 1000 == pytest.approx(at, abs=1)


def test_both_scripts_make_the_same_id_of_a_login(classes: Path, ingest: Ingest, tmp_path: Path) -> None:
    at = now_ms()
    for number, script in enumerate((JANSSEN, GLUU)):
        server = AuthServer(script, classes, tmp_path / f"{number}.log")
        server.do("init", POST, attributes={"url": ingest.url, "token": "t"})
        server.do("forceReAuthentication", POST, session="é", user="alice", at=at)
        wait_until(lambda number=number: len(ingest.events) == number + 1)  # type: ignore[misc]
        server.close()
    assert len({event["id"] for event in ingest.events}) == 1


def test_events_are_sent_again_until_they_are_taken(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    ingest.statuses = [503, 401, 429]
    init(UPDATE)
    auth.do("modifyAccessToken", UPDATE, grant="password", user="alice")
    wait_until(lambda: len(ingest.requests) == 4)
    assert len({json.dumps(request.events, sort_keys=True) for request in ingest.requests}) == 1, (
        "same ids: counted once"
    )
    auth.do("modifyAccessToken", UPDATE, grant="password", user="bob")
    wait_until(lambda: len(ingest.requests) == 5)
    logged = auth.logged()
    assert logged.count("publishing fails and is retried, 503") == 1, "one line for an outage"
    assert "publishing again" in logged


def test_what_is_refused_for_good_is_logged_and_not_sent_again(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    ingest.statuses = [400]
    init(UPDATE)
    auth.do("modifyAccessToken", UPDATE, grant="password", user="alice")
    wait_until(lambda: "1 events are refused with 400" in auth.logged())
    ingest.rejected = [{"index": 0, "reason": "too_long", "detail": "realm is longer than 256 bytes"}]
    auth.do("modifyAccessToken", UPDATE, grant="password", user="bob")
    wait_until(lambda: "1 events are rejected" in auth.logged())
    assert [event["user_id"] for event in ingest.events] == ["alice", "bob"]
    assert "too_long" in auth.logged()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Accepts connections, and that is all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.mark.parametrize("where", ["nothing listens", "nothing answers"])
def test_an_api_that_is_gone_blocks_no_login_and_costs_bounded_memory(
    auth: AuthServer, silent: socket.socket, init: Init, where: str
) -> None:
    port = free_port() if where == "nothing listens" else silent.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/events"
    init(UPDATE, url=url, queue="5", timeout_ms="200")
    init(POST, url=url, queue="5", timeout_ms="200")
    token = {"grant": "password", "user": "alice"}
    calls = [auth.do("modifyAccessToken", UPDATE, **token) for _ in range(50)]
    calls += [auth.do("modifyIdToken", UPDATE, **token) for _ in range(50)]
    assert all(call.answer is True for call in calls)
    logins = [auth.do("forceReAuthentication", POST, session="s", user="alice", at=now_ms()) for _ in range(50)]
    assert all(call.answer is False for call in logins)
    assert max(call.took_s for call in calls + logins) < NOBODY_WAITS_S
    wait_until(lambda: "publishing fails and is retried" in auth.logged())


def test_what_did_not_fit_is_logged(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    ingest.statuses = [503] * 3
    init(UPDATE, queue="5")
    for _ in range(50):
        auth.do("modifyAccessToken", UPDATE, grant="password", user="alice")
    wait_until(lambda: re.search(r"(\d+) events did not fit", auth.logged()))
    wait_until(lambda: len(ingest.requests) == 5)
    lost = re.search(r"(\d+) events did not fit", auth.logged())
    assert lost is not None
    taken = {event["id"] for event in ingest.events}
    assert len(taken) + int(lost[1]) == 50


def test_the_end_of_a_script_sends_what_waits(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    ingest.statuses = [503]
    init(UPDATE)
    for _ in range(20):
        auth.do("modifyAccessToken", UPDATE, grant="password", user="alice")
    # A refusal at the end would lose the rest: one attempt is all that it has then.
    wait_until(lambda: "publishing fails" in auth.logged())
    assert auth.do("destroy", UPDATE).took_s < NOBODY_WAITS_S
    wait_until(lambda: len({event["id"] for event in ingest.events}) == 20)


def test_what_goes_wrong_in_a_script_goes_no_further(auth: AuthServer, ingest: Ingest, init: Init) -> None:
    init(UPDATE)
    init(POST)
    assert auth.do("modifyAccessToken", UPDATE, broken=True).answer is True
    assert auth.do("modifyIdToken", UPDATE, broken=True).answer is True
    assert auth.do("forceReAuthentication", POST, broken=True).answer is False
    assert "a token is not counted" in auth.logged()
    wait_until(lambda: "a login is not counted" in auth.logged())


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({}, "protocol"),
        ({"url": "nowhere", "token": "t"}, "protocol"),
        ({"url": "http://127.0.0.1:1/v1/events"}, "token or token_file is needed"),
        ({"url": "http://127.0.0.1:1/v1/events", "token": "t", "queue": "many"}, "queue is no number"),
        ({"url": "http://127.0.0.1:1/v1/events", "token": "t", "timeout_ms": "0"}, "timeout_ms is no number"),
        ({"url": "http://127.0.0.1:1/v1/events", "token": "t", "refresh_as": "x"}, "refresh_as is original or"),
    ],
)
def test_a_wrong_attribute_is_named_and_the_product_informed(
    auth: AuthServer, attributes: dict[str, str], named: str
) -> None:
    for script in (UPDATE, POST):
        assert auth.do("init", script, attributes=attributes).answer is False
    wait_until(lambda: named in auth.logged())


def test_a_token_file_is_read_anew(auth: AuthServer, ingest: Ingest, init: Init, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    init(UPDATE, token="", token_file=str(path))
    auth.do("modifyAccessToken", UPDATE, grant="password")
    wait_until(lambda: len(ingest.requests) == 1)
    path.write_text("second\n")
    auth.do("modifyAccessToken", UPDATE, grant="password")
    wait_until(lambda: len(ingest.requests) == 2)
    assert [request.headers["Authorization"] for request in ingest.requests] == ["Bearer first", "Bearer second"]


def test_the_products_get_the_api_version_with_two_arguments(auth: AuthServer) -> None:
    assert auth.do("getApiVersion", UPDATE).answer == 11


# Keycloak


def environment(name: str) -> dict[str, str]:
    lines = (PUBLISHERS / "keycloak" / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_keycloaks_list_of_events_has_no_space() -> None:
    """The listener takes what follows a comma as it is: ` LOGIN` names no event."""
    events = environment("keycloak.env")["KAFKA_EVENTS"]
    assert re.fullmatch(r"[A-Z0-9_]+(,[A-Z0-9_]+)*", events)


def test_every_event_that_keycloak_is_to_send_counts() -> None:
    sent = set(environment("keycloak.env")["KAFKA_EVENTS"].split(","))
    assert sent >= set(COUNTED), "what counts is sent"
    assert sent <= set(RULES), "what is sent is known"


def test_the_worker_reads_what_keycloak_writes() -> None:
    worker = environment("worker.env")
    settings = read(KafkaSettings, topics=worker["AUTHTALLY_TOPICS"])
    assert settings.topics[environment("keycloak.env")["KAFKA_TOPIC"]] == "keycloak"
    assert "keycloak" in ADAPTERS
