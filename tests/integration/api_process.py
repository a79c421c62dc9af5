"""The api as operators run it: a process that gets nothing but settings."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from deploy.demo.servers.process import ServerProcess
from schemas.settings import PREFIX
from tests.integration.workers import rss_bytes


class Reply(NamedTuple):
    status: int
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class ApiProcess(ServerProcess):
    """`python -m api`. Its folder is its working directory too: no `.env` of the checkout is read."""

    name = "api"
    start_timeout_s = 60

    def __init__(self, **settings: str) -> None:
        super().__init__()
        # The events of the tests have fixed dates.
        self.settings = {"ingest_max_age_days": "36500"} | settings | {"api_port": str(self.port)}

    def command(self) -> Sequence[str | Path]:
        return (sys.executable, "-m", "api")

    def environment(self) -> dict[str, str]:
        return super().environment() | {f"{PREFIX}{name.upper()}": value for name, value in self.settings.items()}

    def answers(self) -> bool:
        try:
            return self.get("/health/ready").status == 200
        except OSError:
            return False

    @property
    def rss_bytes(self) -> int:
        return rss_bytes(self.pid)

    def get(self, path: str, token: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        headers = {**(headers or {}), **({} if token is None else {"Authorization": f"Bearer {token}"})}
        return self._ask(urllib.request.Request(f"http://{self.address}{path}", headers=headers), 10)

    def post(self, path: str, body: Any, token: str | None = None) -> Reply:
        """A JSON body."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self._ask(urllib.request.Request(f"http://{self.address}{path}", json.dumps(body).encode(), headers), 30)

    @staticmethod
    def _ask(request: urllib.request.Request, timeout_s: float) -> Reply:
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return Reply(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Reply(refusal.code, refusal.headers, refusal.read().decode())
