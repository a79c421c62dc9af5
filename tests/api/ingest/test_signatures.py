"""Webhooks that are admitted by a signature of their body, and what their answers name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from deploy.demo.servers.process import HOST
from tests.api.ingest.samples import FUSIONAUTH, KEYCLOAK
from tests.api.ingest.sending import MakeSite
from tests.api.sources import by_file, listed

SECRET = "a secret of thirty-two characters"
BODY = json.dumps(KEYCLOAK).encode()
EVENT = json.dumps(FUSIONAUTH).encode()
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
PATH = {"keycloak": "/v1/ingest/keycloak", "fusionauth": "/v1/ingest/fusionauth"}


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, Any]:
    """Settings by which no one is admitted without a token."""
    return by_file(tmp_path, listed("writer", scopes=["events:write"]))


def keycloak(body: bytes, secret: str = SECRET, digest: str = "sha256") -> dict[str, str]:
    return {"X-Keycloak-Signature": hmac.new(secret.encode(), body, digest).hexdigest()}


def fusionauth(body: bytes, key: Any = SECRET, algorithm: str = "HS256", **more: Any) -> dict[str, str]:
    kid = {"RS256": "rsa", "ES256": "ec"}.get(algorithm)
    claims = {"request_body_sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(), "iat": int(time.time())}
    signed = jwt.encode(claims | more, key, algorithm, headers={"kid": kid} if kid else None)
    return {"X-FusionAuth-Signature-JWT": signed}


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        (keycloak(BODY), 202, "HMAC-SHA256 of the body in hex"),
        ({"X-Keycloak-Signature": keycloak(BODY)["X-Keycloak-Signature"].upper()}, 202, "in capitals too"),
        (keycloak(BODY) | {"Authorization": "Bearer nonsense"}, 202, "beside a token that is none of ours"),
        (keycloak(BODY + b" "), 401, "of another body"),
        (keycloak(BODY, "another secret of that length ..."), 401, "by another secret"),
        (keycloak(BODY, digest="sha1"), 401, "by an older algorithm"),
        ({"X-Keycloak-Signature": ""}, 401, "empty"),
        ({"X-Keycloak-Signature": "\u00fc" * 64}, 401, "no hex"),
        (fusionauth(BODY), 401, "of another product"),
        ({}, 401, "none"),
    ],
)
async def test_keycloaks_signature(
    make_site: MakeSite, tokens: dict[str, Any], headers: dict[str, str], status: int, why: str
) -> None:
    site = await make_site(**tokens, ingest_keycloak_secret=SECRET)
    assert (await site.send(BODY, PATH["keycloak"], headers=headers)).status == status, why
    assert len(site.holds("login")) == (status == 202)


@pytest.fixture
async def jwks_url() -> AsyncIterator[str]:
    keys = []
    for name, key in (("rsa", RSA_KEY), ("ec", EC_KEY)):
        algorithm: Any = jwt.get_algorithm_by_name("RS256" if name == "rsa" else "ES256")
        keys.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "use": "sig"})

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"keys": keys})

    app = web.Application()
    app.router.add_get("/.well-known/jwks.json", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    yield "http://{}:{}/.well-known/jwks.json".format(*runner.addresses[0])
    await runner.cleanup()


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        (fusionauth(EVENT), 202, "an HMAC key"),
        (fusionauth(EVENT, algorithm="HS512", key=SECRET * 2), 401, "another HMAC key"),
        (fusionauth(EVENT, RSA_KEY, "RS256"), 202, "an RSA key of its JWKS"),
        (fusionauth(EVENT, EC_KEY, "ES256"), 202, "an EC key of its JWKS"),
        (fusionauth(EVENT, OTHER_KEY, "ES256"), 401, "a key that is not published"),
        (fusionauth(EVENT, exp=int(time.time()) - 60), 401, "an expired one"),
        (fusionauth(EVENT + b" "), 401, "of another body"),
        (fusionauth(EVENT, request_body_sha256=hashlib.sha256(EVENT).hexdigest()), 401, "in hex"),
        (fusionauth(EVENT, request_body_sha256=None), 401, "without the claim"),
        ({"X-FusionAuth-Signature-JWT": jwt.encode({}, "", "none")}, 401, "no signature"),
        ({"X-FusionAuth-Signature-JWT": "x" * 9000}, 401, "too long"),
        ({"X-FusionAuth-Signature-JWT": "a.b.c"}, 401, "no JWT"),
    ],
)
async def test_fusionauths_signature(
    make_site: MakeSite, tokens: dict[str, Any], jwks_url: str, headers: dict[str, str], status: int, why: str
) -> None:
    given = {"ingest_fusionauth_secret": SECRET, "ingest_fusionauth_jwks_url": jwks_url}
    site = await make_site(**tokens, **given)
    assert (await site.send(EVENT, PATH["fusionauth"], headers=headers)).status == status, why
    assert len(site.holds("login")) == (status == 202)


async def test_unreachable_keys_are_no_reason_to_drop_an_event(make_site: MakeSite, tokens: dict[str, Any]) -> None:
    site = await make_site(**tokens, ingest_fusionauth_jwks_url="http://127.0.0.1:9/jwks.json")
    answer = await site.send(EVENT, PATH["fusionauth"], headers=fusionauth(EVENT, EC_KEY, "ES256"))
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)


async def test_unknown_types_are_named_in_the_answer(make_site: MakeSite) -> None:
    site = await make_site()
    types = ["LOGOUT", "NEW", "NEWER", "NEW", "x" * 100]
    answer = await site.send([KEYCLOAK | {"type": name} for name in types], PATH["keycloak"])
    assert answer.json == {
        "accepted": 0,
        "ignored": 5,
        "rejected": [],
        "unknown": {"NEW": 2, "NEWER": 1, "__other__": 1},
    }


async def test_a_realm_id_is_sent_by_its_name(make_site: MakeSite) -> None:
    site = await make_site(realm_names={"r1": "acme"})
    by_id = {name: value for name, value in KEYCLOAK.items() if name != "realmName"}
    assert (await site.send(by_id, PATH["keycloak"])).status == 202
    assert [record.value["realm"] for record in site.holds("login")] == ["acme"]
