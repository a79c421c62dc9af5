"""The other party: an identity provider that publishes keys and answers introspection."""

from __future__ import annotations

import base64
import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
AUDIENCE = "statistics"
CLIENT_ID = "api client"
CLIENT_SECRET = "s%cret+/ä"

KEYS: dict[str, tuple[Any, str]] = {
    "rsa": (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
    "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "okp": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    "stranger": (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
}


def claims(**changes: object) -> dict[str, object]:
    """A good token's; a change to None takes the claim away."""
    good: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "collector",
        "exp": int(time.time()) + 600,
        "scope": "openid jans_stat",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(key: str = "rsa", kid: str | None = None, alg: str | None = None, **changes: object) -> str:
    private, usual = KEYS[key]
    return jwt.encode(claims(**changes), private, algorithm=alg or usual, headers={"kid": kid or key})


def public_jwk(name: str) -> dict[str, Any]:
    private, alg = KEYS[name]
    algorithm = jwt.get_algorithm_by_name(alg)
    # One key says what it is for; what the others may sign with follows from what they are.
    named = {"alg": alg} if name == "rsa" else {}
    return algorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": name, "use": "sig"} | named


class Issuer:
    """`published` are the kids in the key set beside `further` keys, `active` what introspection says of a token.

    `down` answers 500.
    """

    def __init__(self) -> None:
        self.published = ["rsa", "ec", "okp"]
        self.further: list[dict[str, Any]] = []
        self.active: dict[str, dict[str, object]] = {}
        self.down = False
        self.key_fetches = 0
        self.introspections = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.get("/jwks", self._jwks), web.post("/introspect", self._introspect)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _jwks(self, _: web.Request) -> web.Response:
        self.key_fetches += 1
        if self.down:
            return web.Response(status=500)
        return web.json_response({"keys": [*map(public_jwk, self.published), *self.further]})

    async def _introspect(self, request: web.Request) -> web.Response:
        self.introspections += 1
        if self.down:
            return web.Response(status=500)
        expected = base64.b64encode(b"api+client:s%25cret%2B%2F%C3%A4").decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return web.Response(status=401)
        form = await request.post()
        return web.json_response(self.active.get(str(form["token"]), {"active": False}))
