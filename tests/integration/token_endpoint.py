"""An OAuth 2 token endpoint for client credentials, and the keys to check what it issued."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

HOST: Final = "127.0.0.1"


class TokenEndpoint:
    """Listens on 127.0.0.1. Knows one client; counts what it issues."""

    audience: Final = "kafka"
    client_id: Final = "counts"
    client_secret: Final = "known to no one else"

    def __init__(self, lifetime_s: int = 300) -> None:
        self.lifetime_s = lifetime_s
        self.refuses_with: int | None = None
        """A status that is answered instead of tokens."""
        self.answers: tuple[int, Any] | None = None
        """The answer to every caller, if set."""
        self.issued: list[dict[str, str]] = []
        """The forms that were answered with a token."""
        self.asked = 0
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="issues-tokens")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def jwks(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]}

    @property
    def login(self) -> str:
        return "Basic " + b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()

    def answer(self, authorization: str, form: dict[str, str]) -> tuple[int, Any]:
        self.asked += 1
        if self.answers is not None:
            return self.answers
        if self.refuses_with is not None:
            return self.refuses_with, {"error": "temporarily_unavailable"}
        if authorization != self.login:
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        self.issued.append(form)
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.audience, "sub": "worker", "iat": now, "exp": now + self.lifetime_s}
        if "scope" in form:
            claims["scope"] = form["scope"]
        token = jwt.encode(claims, self._key, "RS256", {"kid": "1"})
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200 if self.path == "/jwks" else 404, endpoint.jwks())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                self._send(*endpoint.answer(self.headers.get("Authorization", ""), form))

            def _send(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Location", endpoint.url)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
