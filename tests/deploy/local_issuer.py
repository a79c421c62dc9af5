"""An identity provider on a thread of its own, whose clock can be wrong."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from tests.api.issuer import public_jwk

CLIENT: Final = ("statistics", "secret of the client")


class LocalIssuer:
    """Publishes keys at /keys, introspects at /introspect, and its configuration where OpenID Connect has it."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk("rsa"), public_jwk("ec")]
        self.ahead_s = 0.0
        self.calls_itself: str | None = None
        self.active: object = False
        issuer = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self, *issuer.answer_to(self.path))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                expected = b64encode(b"statistics:secret+of+the+client").decode()
                good = self.headers["Authorization"] == f"Basic {expected}"
                issuer.answer(self, 200 if good else 401, {"active": issuer.active})

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + issuer.ahead_s, usegmt=True)

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer_to(self, path: str) -> tuple[int, object]:
        if path == "/keys":
            return 200, {"keys": self.keys}
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.calls_itself or self.url, "jwks_uri": f"{self.url}/keys"}
        return 404, {}

    def answer(self, to: BaseHTTPRequestHandler, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        to.send_response(status)
        to.send_header("Content-Length", str(len(payload)))
        to.end_headers()
        to.wfile.write(payload)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AUTHTALLY_AUTH": "jwt,introspection",
            "AUTHTALLY_AUTH_ISSUER": self.url,
            "AUTHTALLY_AUTH_AUDIENCE": "statistics",
            "AUTHTALLY_AUTH_JWKS_URL": f"{self.url}/keys",
            "AUTHTALLY_AUTH_INTROSPECTION_URL": f"{self.url}/introspect",
            "AUTHTALLY_AUTH_CLIENT_ID": CLIENT[0],
            "AUTHTALLY_AUTH_CLIENT_SECRET": CLIENT[1],
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
