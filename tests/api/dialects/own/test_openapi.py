"""The document is a valid one, names every route, and describes what is really answered, whatever is asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from api.app import build_app
from api.dialects.own import openapi, today
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.settings import read
from schemas.time.clock import Clock
from tests.api import in_thread
from tests.api.conftest import Serve
from tests.api.otp import state, write
from tests.api.worker import account, count, login, token

DOCUMENT = openapi.document()


@pytest.mark.parametrize("ingest", [False, True])
def test_the_document_is_valid(ingest: bool) -> None:
    OpenAPIV31SpecValidator(openapi.document(ingest=ingest)).validate()


@pytest.mark.parametrize("ingest", [False, True])
def test_every_own_route_is_described(ingest: bool) -> None:
    app = build_app(read(ApiSettings, auth=("none",), ingest=ingest))
    served = {route.resource.canonical for route in app.router.routes() if route.resource is not None}
    own = {path for path in served if path.startswith("/v1/")}
    assert own | {"/openapi.json"} == set(openapi.document(ingest=ingest)["paths"])


def test_every_refusal_is_described() -> None:
    for path, methods in DOCUMENT["paths"].items():
        if path != "/openapi.json":
            unchanged = set() if path == today.PATH else {"304"}
            assert methods["get"]["responses"].keys() == {"200", "400", "401", "403", "500", "503"} | unchanged


async def test_it_is_open_to_all(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('[{"sha256": "' + "0" * 64 + '", "subject": "nobody", "scopes": []}]')
    api = await serve(redis_url=redis_url, auth=("static",), auth_tokens_file=tokens)
    answer = await api.get("/openapi.json")
    assert (answer.status, answer.json) == (200, DOCUMENT)


NOW = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
TOKEN = "fuzz"
KEPT = ("realm", "client", "node")


@pytest.fixture(scope="module")
def url(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An api in a thread of its own, over a ledger with something of everything."""
    with redis.Redis.from_url(valkey.url) as server:
        server.flushall()
    days = [(NOW - timedelta(days=number)).isoformat() for number in range(0, 80, 3)]
    of = {"realm": "acme", "client_id": "web", "node": "as1"}
    events = [
        *(login(day, f"user-{number}", id=str(number), **of) for number, day in enumerate(days)),
        *(login(day, "ada", success=False, reason="locked", **of) for day in days),
        *(token(day, "client_credentials", "access_token", **of) for day in days),
        *(account(day, "signup", realm="acme") for day in days),
    ]
    asyncio.run(count(valkey.url, events, users_by=KEPT, counts_by=KEPT))
    serials = [state(day, str(number), "token_init", "acme") for number, day in enumerate(reversed(days))]
    asyncio.run(write(valkey.url, serials, users_by=KEPT, counts_by=KEPT))
    tokens = tmp_path_factory.mktemp("access") / "tokens.json"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens.write_text(json.dumps([{"sha256": digest, "subject": "fuzz", "scopes": ["stats:read", "metrics:read"]}]))
    api = read(
        ApiSettings,
        redis_url=valkey.url,
        auth=("static",),
        auth_tokens_file=tokens,
        users_by=KEPT,
        counts_by=KEPT,
        cache_ttl_s=1,
    )
    with in_thread.served(api, Clock(now=NOW.timestamp)) as (host, port):
        yield f"http://{host}:{port}"


# A stream has no end that one could wait for; test_live.py reads it.
schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=today.PATH)


@schema.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked_is_answered_as_described(case: schemathesis.Case[Any], url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = case.call(base_url=url, headers=headers, timeout=10)
    # What the schema cannot say is refused too: a `from` after its `to`, a label that is not kept. And some requests
    # that are meant to break the schema do not as they are sent: a parameter without a value vanishes on the way.
    case.validate_response(response, excluded_checks=[positive_data_acceptance, negative_data_rejection])
    sent = dict(parse_qsl(urlsplit(str(response.request.url)).query, keep_blank_values=True))
    described = {one.get("name", one.get("$ref", "").rpartition("/")[2]) for one in parameters(case)}
    if response.status_code == 200 and case.operation.path != openapi.PATH:
        assert sent.keys() <= described
        assert all(sent.values())


def parameters(case: schemathesis.Case[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DOCUMENT["paths"][case.operation.path]["get"].get("parameters", [])
    return found
