"""What is secret stays so: user ids, tokens and secrets are planted everywhere, then looked for everywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker, Site
from tests.integration.test_bad_records import letters, named
from tests.integration.workers import WorkerProcess

ROOT: Final = Path(__file__).parents[2]
TIME: Final = "2026-11-20T10:00:00Z"
USER: Final = "canary-user-7f3a"
EVENT_ID: Final = "canary-event-1b77"
HASH_KEY: Final = "canary-hash-key-90aa51c2d4e6"
PASSWORD: Final = "canary-password-55d0"
GOOD_TOKEN: Final = "canary-token-good-c4"
BAD_TOKEN: Final = "canary-token-bad-e1"
WEBHOOK: Final = "canary-webhook-secret-28"
WRONG_WEBHOOK: Final = "canary-webhook-wrong-93"
PLANTED: Final = (USER, EVENT_ID, HASH_KEY, PASSWORD, GOOD_TOKEN, BAD_TOKEN, WEBHOOK, WRONG_WEBHOOK)

MONTH: Final = "/jans-auth/restv1/internal/stat?month=202611"


def login(**more: Any) -> dict[str, Any]:
    return {"type": "login", "time": TIME, "user_id": USER, "realm": "acme", "client_id": "web", **more}


# On a topic of logins: as many ways as there are to be refused with the user's name in hand.
BAD: Final[list[bytes]] = [
    json.dumps(login(time="yesterday")).encode(),
    json.dumps(login(success="yes")).encode(),
    json.dumps(login(user_id=[USER])).encode(),
    json.dumps(login(realm={"of": USER})).encode(),
    json.dumps(login(realm=USER * 20)).encode(),
    json.dumps(login(user_id=USER * 80)).encode(),
    json.dumps(login(time="1999-01-01T00:00:00Z")).encode(),
    json.dumps(login(id=7, type=USER)).encode(),
    json.dumps(login(id=EVENT_ID * 80)).encode(),
    json.dumps([USER]).encode(),
    USER.encode(),
    json.dumps(login()).encode()[:-1],
    json.dumps(login()).encode().replace(b'"acme"', b'"\xff"'),
]


def forms(planted: str) -> dict[str, bytes]:
    """A text, and what others could make of it without our key."""
    raw = planted.encode()
    found = {"itself": raw, "base64": base64.b64encode(raw).rstrip(b"="), "hex": raw.hex().encode()}
    for name in ("md5", "sha1", "sha256", "blake2b"):
        digest = hashlib.new(name, raw).digest()
        found[name] = digest[:8]
        found[f"{name} in hex"] = digest.hex().encode()[:16]
    return found


def leaks(where: dict[str, bytes], planted: dict[str, dict[str, bytes]]) -> list[str]:
    return [
        f"{name} as {form} in {place}"
        for place, content in where.items()
        for name, shapes in planted.items()
        for form, shape in shapes.items()
        if shape in content
    ]


def files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def store() -> Iterator[Valkey]:
    """One that writes all that it holds to disk, in plain."""
    options = ("--appendonly", "yes", "--rdbcompression", "no", "--aof-use-rdb-preamble", "no", "--save", "3600 1")
    with Valkey(password=PASSWORD, options=options) as server:
        yield server


def ask(api: ApiProcess) -> dict[str, bytes]:
    """What the api answers those with good, bad and no tokens, whatever they send."""
    answers = {}
    for path in (
        MONTH,
        "/v1/overview",
        "/v1/users",
        "/v1/pipeline",
        "/reporting/maximum?session=" + BAD_TOKEN,
        "/nope",
    ):
        for token in (GOOD_TOKEN, BAD_TOKEN, f"{BAD_TOKEN} {BAD_TOKEN}", None):
            reply = api.get(path, token)
            answers[f"{path} {token}"] = f"{reply.headers} {reply.text}".encode()
    events = [login(id=EVENT_ID), login(id=EVENT_ID), login(time="soon"), login(user_id=7), login(realm=USER * 20)]
    for token in (GOOD_TOKEN, BAD_TOKEN):
        reply = api.post("/v1/events", events, token)
        answers[f"events {token}"] = f"{reply.headers} {reply.text}".encode()
    keycloak = {"id": EVENT_ID, "time": 1_795_168_800_000, "type": "LOGIN", "realmName": "acme", "userId": USER}
    for secret in (WEBHOOK, WRONG_WEBHOOK):
        for body in (keycloak, keycloak | {"time": USER}):
            reply = api.post("/v1/ingest/keycloak", body, secret)
            answers[f"webhook {secret} {body['time']}"] = f"{reply.headers} {reply.text}".encode()
    for path in ("/metrics", "/v1/metrics", "/health/ready"):
        answers[path] = api.get(path, GOOD_TOKEN).text.encode()
    return answers


def test_nothing_secret_is_kept_logged_or_answered(
    make_site: MakeSite, embedded: Broker, store: Valkey, tmp_path: Path
) -> None:
    site = make_site(embedded, store=store, log_level="debug")
    # Made with a key of its own: the site's is no secret.
    site.workers.settings["user_hash_key"] = HASH_KEY
    tokens = tmp_path / "tokens.json"
    scopes = ["jans_stat", "stats:read", "metrics:read", "events:write", "reporting"]
    sha256 = hashlib.sha256(GOOD_TOKEN.encode()).hexdigest()
    tokens.write_text(json.dumps([{"sha256": sha256, "subject": "dashboard", "scopes": scopes}]))
    worker = site.workers.start().wait_until_ready()
    shard = Shard(site.logins, 0)
    for value in BAD:
        site.publisher.send_bad(shard, value, "any")
    settings = {"auth": "static", "auth_tokens_file": str(tokens), "ingest": "on", "ingest_keycloak_secret": WEBHOOK}
    common = {name: value for name, value in site.workers.settings.items() if name != "user_hash_key"}
    with ApiProcess(**common | settings) as api:
        answers = ask(api)
        counted = _wait_until_counted(site, worker)
        assert counted > 0
        with letters(site, len(BAD)) as found:
            headers = {f"dead letter {number}": str(named(one)).encode() for number, one in enumerate(found)}
        logs = {"the worker's log": worker.log_file.read_bytes(), "the api's log": api.log.read_bytes()}
        logs["the worker's metrics"] = worker.metrics().encode()
        api.stop()
    worker.stop()
    with redis.Redis.from_url(store.url) as client:
        client.save()
    kept = {str(path.relative_to(store.folder)): path.read_bytes() for path in files(store.folder)}
    assert any(name.endswith(".rdb") for name in kept)
    assert any(name.endswith(".aof") for name in kept)
    # The search would find what is there: a realm is kept in plain.
    assert b"acme" in b"".join(kept.values())

    plain = {text: {"itself": text.encode()} for text in PLANTED}
    assert leaks(answers | headers | logs | kept, plain) == []
    assert leaks(kept, {USER: forms(USER), EVENT_ID: forms(EVENT_ID)}) == []


def _wait_until_counted(site: Site, worker: WorkerProcess) -> float:
    def counted() -> float:
        return worker.metric("authtally_events_total", result="counted")

    # At least one login; by /v1/events and by the webhook it is not the same event.
    wait_until(lambda: counted() >= 1 and worker.metric("authtally_events_total", result="dead") >= len(BAD), 60)
    return counted()


URL_PASSWORD: Final = "canary-url-password-3e"
URL_KEY: Final = "canary-url-key-81"
COMMANDS: Final = (
    ("worker", "--check"),
    ("api", "--check"),
    ("api", "--check", "--json"),
    ("doctor",),
    ("doctor", "--json"),
    ("positions", "show"),
    ("snapshot", "save", "snapshot.bin"),
    ("snapshot", "show", "snapshot.bin"),
    ("snapshot", "show", "snapshot.bin", "--json"),
    ("report", "overview"),
)


def test_no_command_and_no_log_shows_a_secret_of_a_url(
    make_site: MakeSite, embedded: Broker, store: Valkey, tmp_path: Path
) -> None:
    """Every setting with a URL has a password and a key in it; most of their servers do not answer."""
    site = make_site(embedded, store=store, log_level="debug")
    worker = site.workers.start().wait_until_ready()
    query = f"key={URL_KEY}"
    issuer = f"http://me:{URL_PASSWORD}@127.0.0.1:1/path?{query}"
    address = f"127.0.0.1:{store.port}/0"
    settings = site.workers.settings | {
        # The store's password in the query, as redis-py reads it.
        "redis_url": f"redis://{address}?password={PASSWORD}",
        "cache_redis_url": f"redis://:{PASSWORD}@{address[:-1]}1",
        "auth": "jwt,introspection",
        "auth_issuer": "https://issuer.example",
        "auth_audience": "statistics",
        "auth_jwks_url": issuer,
        "auth_introspection_url": issuer,
        "auth_client_id": "authtally",
        "auth_client_secret": URL_PASSWORD,
        "url": f"http://me:{URL_PASSWORD}@127.0.0.1:1",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    shown: dict[str, bytes] = {}
    for command in COMMANDS:
        done = subprocess.run(
            (sys.executable, "-m", "deploy.cli.main", *command),
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.stdout or done.stderr, command
        shown[" ".join(command)] = done.stdout + done.stderr
    shown["the file of the snapshot"] = gzip_or_plain(tmp_path / "snapshot.bin")
    with ApiProcess(**settings) as api:
        for token in ("opaque", f"{forged_head()}.e30.e30"):
            reply = api.get("/v1/overview", token)
            shown[f"answer to {token}"] = f"{reply.headers} {reply.text}".encode()
            assert reply.status in (401, 503)
        shown["metrics"] = api.get("/metrics").text.encode()
        shown["the api's log"] = api.log.read_bytes()
        api.stop()
    worker.stop()
    assert b"********" in shown["api --check"]
    assert b"tokens not introspected" in shown["the api's log"]
    planted = {text: {"itself": text.encode()} for text in (URL_PASSWORD, URL_KEY, PASSWORD, settings["user_hash_key"])}
    assert leaks(shown, planted) == []


def forged_head() -> str:
    return base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"k"}').decode().rstrip("=")


def gzip_or_plain(path: Path) -> bytes:
    content = path.read_bytes()
    return content + (gzip.decompress(content) if content.startswith(b"\x1f\x8b") else b"")
