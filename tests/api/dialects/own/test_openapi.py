"""The document is a valid one, names every route, and describes what is really answered, whatever is asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from api.app import build_app
from api.dialects.own import openapi, today
from api.settings.settings import ApiSettings
from deploy.demo.servers import Tansu, Valkey
from schemas.events import EVENTS
from schemas.settings import read
from schemas.time.clock import Clock
from tests.api import in_thread
from tests.api.conftest import Serve
from tests.api.dialects.own import examples
from tests.api.otp import state, write
from tests.api.worker import account, count, login, token

DOCUMENT = openapi.document()
FULL = openapi.document(ingest=True, regions=True)


@pytest.mark.parametrize("more", [False, True])
def test_the_document_is_valid(more: bool) -> None:
    OpenAPIV31SpecValidator(openapi.document(ingest=more, regions=more)).validate()


NOT_DESCRIBED = ("/health/", "/metrics", "/dashboard")
"""Operations and pages for people, by the beginning of their path; `/` alone is the dashboard too."""

UNDESCRIBED_METHODS = ("HEAD", "*")
"""`*` is the route that answers unknown actions of LinOTP with an error."""


@pytest.mark.parametrize("more", [False, True])
def test_every_route_is_described(more: bool, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"sha256": "0" * 64, "subject": "nobody", "scopes": []}]))
    regions: dict[str, Any] = {"region": "eu", "region_users": "distinct"} if more else {}
    app = build_app(read(ApiSettings, auth=("static",), auth_tokens_file=tokens, ingest=more, **regions))
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method not in UNDESCRIBED_METHODS
    }
    routes = {(method, path) for method, path in served if path != "/" and not path.startswith(NOT_DESCRIBED)}
    document = openapi.document(ingest=more, regions=more)
    assert routes == {(method, path) for path, methods in document["paths"].items() for method in methods}


def test_every_error_is_described() -> None:
    for path, methods in DOCUMENT["paths"].items():
        if path.startswith("/v1/"):
            unchanged = set() if path == today.PATH else {"304"}
            assert methods["get"]["responses"].keys() == {"200", "400", "401", "403", "500", "503"} | unchanged


def operations() -> Iterator[dict[str, Any]]:
    for methods in FULL["paths"].values():
        yield from methods.values()


def test_operation_ids_have_one_style() -> None:
    ids = [operation["operationId"] for operation in operations()]
    assert len(set(ids)) == len(ids)
    assert [each for each in ids if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", each)] == []


def schemas_in(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every place of the document that holds a schema, with its path."""
    if isinstance(value, dict):
        for name, each in value.items():
            place = f"{path}/{name}"
            if name in ("schema", "items", "additionalProperties"):
                yield place, each
            if name in ("properties", "schemas"):
                yield from ((f"{place}/{member}", schema) for member, schema in each.items())
            if name != "examples":
                yield from schemas_in(each, place)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from schemas_in(each, f"{path}/{number}")


def test_no_schema_is_a_boolean() -> None:
    found = dict(schemas_in(FULL))
    assert len(found) > 300
    assert [place for place, schema in found.items() if isinstance(schema, bool)] == []


def test_an_event_of_each_type_has_its_schema() -> None:
    schemas = FULL["components"]["schemas"]
    native = schemas["NativeEvent"]
    assert native["discriminator"]["propertyName"] == "type"
    assert native["discriminator"]["mapping"].keys() == EVENTS.keys()
    for name, event in EVENTS.items():
        schema = schemas[native["discriminator"]["mapping"][name].rpartition("/")[2]]
        assert schema["properties"].keys() == {"type", *event.__struct_encode_fields__}
        assert {"type", "time"} <= set(schema["required"])


def test_every_operation_has_an_example_of_its_schema() -> None:
    shown = set()
    for operation in operations():
        contents = [("request", operation.get("requestBody", {}))]
        contents += [(status, response) for status, response in operation["responses"].items()]
        for place, content in contents:
            for media, described in content.get("content", {}).items():
                for example in described.get("examples", {}).values():
                    shown.add(operation["operationId"])
                    schema = described["schema"] | {"components": FULL["components"]}
                    errors = [error.message for error in OAS31Validator(schema).iter_errors(example["value"])]
                    assert errors == [], (operation["operationId"], place, media)
    assert shown == {operation["operationId"] for operation in operations()} - {"openapi"}


def test_the_examples_are_what_is_answered(valkey: Valkey, tansu: Tansu, tmp_path: Path) -> None:
    with examples.served(valkey.url, tansu.address, tmp_path / "tokens.json") as url:
        assert examples.record(url) == json.loads(examples.FILE.read_bytes())


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
    labels = {"realm": "acme", "client_id": "web", "node": "as1"}
    events = [
        *(login(day, f"user-{number}", id=str(number), **labels) for number, day in enumerate(days)),
        *(login(day, "ada", success=False, reason="locked", **labels) for day in days),
        *(token(day, "client_credentials", "access_token", **labels) for day in days),
        *(account(day, "signup", realm="acme") for day in days),
    ]
    asyncio.run(count(valkey.url, events, users_by=KEPT, counts_by=KEPT))
    serials = [state(day, str(number), "token_init", "acme") for number, day in enumerate(reversed(days))]
    asyncio.run(write(valkey.url, serials, users_by=KEPT, counts_by=KEPT))
    tokens = tmp_path_factory.mktemp("access") / "tokens.json"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens.write_text(json.dumps([{"sha256": digest, "subject": "fuzz", "scopes": examples.SCOPES}]))
    api = read(
        ApiSettings,
        redis_url=valkey.url,
        auth=("static",),
        auth_tokens_file=tokens,
        users_by=KEPT,
        counts_by=KEPT,
        cache_ttl_s=1,
        auth0_rate_limit=0,
    )
    with in_thread.served(api, Clock(now=NOW.timestamp)) as (host, port):
        yield f"http://{host}:{port}"


# A stream has no end that one could wait for; test_live.py reads it.
schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=today.PATH)


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked_is_answered_as_described(case: schemathesis.Case[Any], url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = case.call(base_url=url, headers=headers, timeout=10)
    # What the schema cannot say is refused too: a `from` after its `to`, a label that is not kept. And some requests
    # that are meant to break the schema do not as they are sent: a parameter without a value vanishes on the way.
    excluded: list[Any] = [positive_data_acceptance, negative_data_rejection]
    if case.operation.path.startswith("/reporting/"):
        # `httperror` chooses the status of every error, those of a missing token and of another method among them.
        excluded += [ignored_auth, missing_required_header, not_a_server_error, unsupported_method]
    case.validate_response(response, excluded_checks=excluded)
    if not case.operation.path.startswith("/v1/"):
        return
    sent = dict(parse_qsl(urlsplit(str(response.request.url)).query, keep_blank_values=True))
    described = {one.get("name", one.get("$ref", "").rpartition("/")[2]) for one in parameters(case)}
    if response.status_code == 200:
        assert sent.keys() <= described
        assert all(sent.values())


def parameters(case: schemathesis.Case[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DOCUMENT["paths"][case.operation.path]["get"].get("parameters", [])
    return found
