"""A small OpenID provider that signs anybody in at once, and holds clients to what the standards ask of them."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlencode

from aiohttp import web

from deploy.demo.servers.process import HOST
from tests.api.issuer import AUDIENCE, public_jwk, token

CLIENT: Final = "dashboard"
LIFETIME_S: Final = 600
CORS: Final = {"Access-Control-Allow-Origin": "*"}


@dataclass
class Provider:
    """How it behaves can be changed at any time; what it was asked is kept."""

    scope: str = "openid stats:read"
    refreshes: bool = False
    refuses: str = ""
    nonce: str = ""
    """Instead of the one that was given."""
    named: str = ""
    """Instead of the own name, in the answer."""
    token_host: str = HOST
    ends_sessions: bool = True
    ahead_s: float = 0
    authorizations: list[dict[str, str]] = field(default_factory=list)
    grants: list[dict[str, str]] = field(default_factory=list)
    ended: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _refresh_tokens: set[str] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._about),
                web.get("/authorize", self._authorize),
                web.post("/token", self._token),
                web.get("/end", self._end),
                web.get("/jwks", self._jwks),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def settings(self) -> dict[str, Any]:
        """Of an api whose people sign in here."""
        return {
            "auth_issuer": self.url,
            "auth_audience": AUDIENCE,
            "auth_jwks_url": f"{self.url}/jwks",
            "dashboard_client_id": CLIENT,
        }

    def revoke(self) -> None:
        self._refresh_tokens.clear()

    async def _about(self, _: web.Request) -> web.Response:
        about = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url.replace(HOST, self.token_host)}/token",
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        if self.ends_sessions:
            about["end_session_endpoint"] = f"{self.url}/end"
        return web.json_response(about, headers=CORS)

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        self.authorizations.append(asked)
        answer = {"state": asked["state"], "iss": self.named or self.url}
        if self.refuses:
            answer |= {"error": "access_denied", "error_description": self.refuses}
        else:
            code = secrets.token_urlsafe()
            self._codes[code] = asked
            answer["code"] = code
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        given = {name: str(value) for name, value in (await request.post()).items()}
        self.grants.append(given)
        nonce = ""
        if given["grant_type"] == "refresh_token":
            good = given["refresh_token"] in self._refresh_tokens
            # Good once (RFC 9700 §4.14.2).
            self._refresh_tokens.discard(given["refresh_token"])
        else:
            asked = self._codes.pop(given["code"], {})
            digest = hashlib.sha256(given["code_verifier"].encode()).digest()
            good = (
                base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked.get("code_challenge")
                and given["redirect_uri"] == asked.get("redirect_uri")
                and given["client_id"] == asked.get("client_id") == CLIENT
            )
            nonce = self.nonce or asked.get("nonce", "")
        if not good:
            return web.json_response({"error": "invalid_grant"}, status=400, headers=CORS)
        return web.json_response(self._tokens(nonce), headers=CORS | {"Cache-Control": "no-store"})

    def _tokens(self, nonce: str) -> dict[str, object]:
        expires = int(time.time() + self.ahead_s) + LIFETIME_S
        claims: dict[str, Any] = {"iss": self.url, "sub": "5f0c", "exp": expires}
        tokens: dict[str, object] = {
            "access_token": token(**claims, scope=self.scope, jti=secrets.token_hex(4)),
            "token_type": "Bearer",
            "expires_in": LIFETIME_S,
            "scope": self.scope,
            "id_token": token(**claims | {"aud": CLIENT}, nonce=nonce, preferred_username="ada", scope=None),
        }
        if self.refreshes:
            tokens["refresh_token"] = secrets.token_urlsafe()
            self._refresh_tokens.add(str(tokens["refresh_token"]))
        return tokens

    async def _end(self, request: web.Request) -> web.Response:
        self.ended.append(dict(request.query))
        raise web.HTTPFound(request.query["post_logout_redirect_uri"])

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [public_jwk("rsa")]})
