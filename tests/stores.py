"""Stores that ask who is there: with the users that are shipped, and with TLS where the binary has it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.demo.servers import Valkey
from deploy.demo.servers.process import HOST
from tests.certificates import Authority

USERS: Final = Path(__file__).parents[1] / "deploy" / "redis" / "users.acl"
PASSWORD: Final = "of-all-users-in-tests"
WATCHER: Final = "watcher"
"""A user who may do anything, besides those shipped."""


def users() -> str:
    """The shipped file with a password for each user, and the watcher."""
    lines = [line + ("" if " off " in line else f" >{PASSWORD}") for line in USERS.read_text().splitlines()]
    return "\n".join([*lines, f"user {WATCHER} on >{PASSWORD} ~* &* +@all"]) + "\n"


class Store(Valkey):
    """Knows the shipped users only. With an authority it speaks TLS, and nothing else."""

    name = "store"

    def __init__(
        self,
        options: Sequence[str] = (),
        binary: Path | None = None,
        authority: Authority | None = None,
        certified: str = HOST,
    ) -> None:
        """`certified` is the host that its certificate is for."""
        super().__init__(Path(tempfile.mkdtemp(prefix="authtally-store-")), binary=binary, options=options)
        self._owns_folder = True
        self.authority = authority
        self.certified = certified
        self._watchers = None if authority is None else authority.sign(f"watcher-{self.port}")

    def prepare(self) -> None:
        path = self.folder / "users.acl"
        if not path.exists():
            path.write_text(users())

    def command(self) -> Sequence[str | Path]:
        words = list(super().command())
        ours: list[str | Path] = ["--aclfile", self.folder / "users.acl"]
        if self.authority is not None:
            shown = self.authority.sign(f"store-{self.port}", self.certified)
            ours += ["--port", "0", "--tls-port", str(self.port), "--tls-ca-cert-file", self.authority.file]
            ours += ["--tls-cert-file", shown.certificate, "--tls-key-file", shown.key]
            ours += ["--tls-auth-clients", "optional", "--tls-replication", "yes", "--tls-cluster", "yes"]
        # Before the options, which win.
        at = len(words) - len(self.options)
        return [*words[:at], *ours, *words[at:]]

    @property
    def url(self) -> str:
        """Of the watcher, with all that a client needs."""
        url = self.url_of(WATCHER)
        if self.authority is None or self._watchers is None:
            return url
        shown = f"ssl_certfile={self._watchers.certificate}&ssl_keyfile={self._watchers.key}"
        return f"{url}?ssl_ca_certs={self.authority.file}&{shown}"

    def url_of(self, user: str) -> str:
        scheme = "redis" if self.authority is None else "rediss"
        return f"{scheme}://{user}:{PASSWORD}@{self.certified}:{self.port}/0"

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs besides the URL."""
        return {} if self.authority is None else {"redis_ca_file": str(self.authority.file)}

    def connect(self, user: str) -> Any:
        url = self.url.replace(f"{WATCHER}:", f"{user}:")
        return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), decode_responses=True, socket_timeout=5)

    def watcher(self) -> Any:
        return self.connect(WATCHER)

    def answers(self) -> bool:
        with self.watcher() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
