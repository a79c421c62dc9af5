"""The demo's four processes, broker, store, worker and api, in one temporary folder that is removed at the end."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import Producer

from deploy.demo.region import PEER_SCOPE, Region
from deploy.demo.servers import ServerError, Tansu, Valkey, create_topics, free_port
from deploy.demo.servers.process import HOST, accepts, start_child, stop_child, tail
from deploy.demo.site import ACCOUNTS, DEAD_LETTERS, KEYCLOAK, LOGINS, OTP_TOKENS, QUOTA_USE, TOKENS, TOPICS
from schemas.settings import PREFIX

READY_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 5
SCOPES: Final = ("jans_stat", "read:stats", "reporting", "stats:read", "metrics:read", "events:write")


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class DemoError(Exception):
    """The demo cannot continue; the text is for the user."""


class Children:
    """Runs the processes in a `with` block. `check` raises DemoError if one of the four has ended."""

    def __init__(self, port: int, token: str, region: Region | None = None) -> None:
        self.api_port = port
        self.token = token
        self.region = region
        self._of = f" of region {region.name}" if region else ""
        self.worker_port = free_port()
        self._stack = ExitStack()
        self._services: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def __enter__(self) -> Self:
        if accepts(self.api_port):
            raise DemoError(f"Port {self.api_port} is in use; choose another with --port.")
        with self._stack:
            self.folder = Path(tempfile.mkdtemp(prefix="authtally-demo-"))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            try:
                self.store = self._stack.enter_context(Valkey(folder=self.folder / "valkey"))
                self.broker = self._stack.enter_context(Tansu(folder=self.folder / "tansu"))
            except ServerError as error:
                raise DemoError(str(error)) from error
            create_topics(self.broker.address, TOPICS)
            settings = self._settings()
            # Settings in the user's shell are meant for other processes.
            inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
            self.environment = inherited | {"HOME": str(self.folder)} | settings
            self._write_settings_file(settings)
            for name, module in (("worker", "aggregator"), ("api", "api")):
                log = self.folder / f"{name}.log"
                process = start_child((sys.executable, "-m", module), log, self.folder, self.environment)
                self._stack.callback(stop_child, process, STOP_TIMEOUT_S)
                self._services[name] = process, log
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # Terminate all first, so that they stop concurrently.
        for process, _log in self._services.values():
            process.terminate()
        self._stack.close()

    def _settings(self) -> dict[str, str]:
        """The settings of worker and api, by their full names."""
        tokens = self.folder / "tokens.json"
        listed: list[dict[str, Any]] = [{"sha256": _sha256(self.token), "subject": "demo", "scopes": SCOPES}]
        if self.region is not None:
            listed[0]["regions"] = ["*"]
            listed.append({"sha256": _sha256(self.region.peer_token), "subject": "peer", "scopes": [PEER_SCOPE]})
        tokens.write_text(json.dumps(listed), encoding="utf-8")
        self._quotas.write_text("{}", encoding="utf-8")
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.address,
            # The embedded broker does not support idempotent producers.
            "KAFKA_IDEMPOTENCE": "off",
            "TOPICS": f"{LOGINS}=login,{TOKENS}=token,{ACCOUNTS}=account,{OTP_TOKENS}=otp,{KEYCLOAK}=keycloak",
            "DEAD_LETTER_TOPIC": DEAD_LETTERS,
            "REDIS_URL": self.store.url,
            "USER_HASH_KEY": secrets.token_hex(32),
            # The first days of the sample are older than the default keeps them.
            "RETAIN_DAYS": "forever",
            "USERS_BY": "realm,client",
            "COUNTS_BY": "realm,client,node",
            "QUOTAS_FILE": str(self._quotas),
            "INGEST": "on",
            # The dates of the documentation's examples are in the past too.
            "INGEST_MAX_AGE_DAYS": "36500",
            "WORKER_HOST": HOST,
            "WORKER_PORT": str(self.worker_port),
            "API_HOST": HOST,
            "API_PORT": str(self.api_port),
            "AUTH": "static",
            "AUTH_TOKENS_FILE": str(tokens),
        }
        if self.region is not None:
            settings |= self.region.settings(self.folder)
        return {PREFIX + name: value for name, value in settings.items()}

    @property
    def settings_file(self) -> Path:
        """A file for the shell, after which commands use the demo's servers."""
        return self.folder / "settings.sh"

    def _write_settings_file(self, settings: dict[str, str]) -> None:
        exported = settings | {PREFIX + "URL": self.url, PREFIX + "TOKEN": self.token}
        # Settings of another ledger in the user's shell would mix with those of the demo.
        others = "env | sed -n 's/^\\(" + PREFIX + "[A-Z0-9_]*\\)=.*/\\1/p'"
        lines = [f'for name in $({others}); do unset "$name"; done']
        lines += [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
        # The command is in this Python's folder, which need not be on the PATH: `make demo` has its own.
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
        self.settings_file.touch(mode=0o600)
        self.settings_file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def _quotas(self) -> Path:
        return self.folder / "quotas.json"

    def set_quotas(self, tokens: Mapping[tuple[str, str], int]) -> None:
        """Limits of every service, from its tokens in one month by (realm, client); the api reads the file again."""
        clients = [
            {"realm": realm, "client_id": client, "limit": max(1, round(issued / QUOTA_USE[client]))}
            for (realm, client), issued in sorted(tokens.items())
        ]
        written = self._quotas.with_suffix(".new")
        written.write_text(json.dumps({"tenant": round(sum(tokens.values()) * 1.5), "clients": clients}), "utf-8")
        written.replace(self._quotas)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    def check(self) -> None:
        """Raises DemoError with the name and the last lines of a child that has ended."""
        for server in (self.store, self.broker):
            if not server.running:
                raise DemoError(f"{server.name}{self._of} ended unexpectedly. Its last lines:\n{tail(server.log)}")
        for name, (process, log) in self._services.items():
            status = process.poll()
            if status is not None:
                raise DemoError(f"The {name}{self._of} ended with status {status}. Its last lines:\n{tail(log)}")

    def wait_for_api(self) -> None:
        """Wait until the api is ready. Raises DemoError."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            self.check()
            try:
                self.get("/health/ready", authorized=False)
            except OSError as error:
                if time.monotonic() > deadline:
                    log = self._services["api"][1]
                    raise DemoError(f"The api{self._of} is not ready: {error}. Its last lines:\n{tail(log)}") from error
                time.sleep(0.05)
            else:
                return

    def get(self, path: str, *, authorized: bool = True) -> str:
        """The text of the api's answer. Raises OSError (HTTPError included) for any status but success."""
        return self._ask(path, None, {"Authorization": f"Bearer {self.token}"} if authorized else {})

    def post(self, path: str, content_type: str, body: bytes) -> str:
        """The text of the api's answer to a body. Raises OSError like `get`."""
        return self._ask(path, body, {"Authorization": f"Bearer {self.token}", "Content-Type": content_type})

    def _ask(self, path: str, body: bytes | None, headers: dict[str, str]) -> str:
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310
        # Without the environment's proxy, because the api is on the loopback interface.
        opener: Any = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def producer(self) -> Producer:
        """A producer for the embedded broker, which does not support idempotence."""
        properties = {"enable.idempotence": False, "acks": "all", "linger.ms": 20, "log_level": 0}
        return Producer({"bootstrap.servers": self.broker.address, **properties})

    def worker_log(self) -> str:
        return tail(self._services["worker"][1])
