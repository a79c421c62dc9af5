"""A site for `authtally doctor` to examine, on real servers, and what it finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from deploy.cli.doctor.findings import CHECKS
from deploy.demo.servers import Valkey, create_topics
from tests.deploy.conftest import Deployment
from tests.deploy.local_issuer import LocalIssuer


class Found(NamedTuple):
    status: int
    printed: dict[str, Any]

    def of(self, check: str, verdict: str | None = None) -> list[dict[str, str]]:
        return [
            finding
            for finding in self.printed["findings"]
            if finding["check"] == check and verdict in (None, finding["verdict"])
        ]

    def verdicts(self, check: str) -> set[str]:
        return {finding["verdict"] for finding in self.of(check)}

    def text(self, check: str, verdict: str) -> str:
        """Of the one finding of a check with a verdict."""
        (finding,) = self.of(check, verdict)
        if verdict != "ok":
            assert finding["advice"], finding
        return f"{finding['subject']}: {finding['found']} → {finding['advice']}"


class Patient:
    """A deployment on Apache Kafka, with an OTP topic, a store that persists, and an issuer."""

    def __init__(self, kafka: str, store: Valkey, issuer: LocalIssuer, folder: Path) -> None:
        unique = folder.name
        self.store, self.issuer = store, issuer
        self.deployment = Deployment(kafka, store.url, folder, unique)
        self.otp = f"otp.{unique}"
        create_topics(kafka, {self.otp: 1})
        self.topic, self.dead_letters = self.deployment.topic, self.deployment.dead_letters
        self.deployment.environment |= {
            "AUTHTALLY_TOPICS": f"{self.topic}=login,{self.otp}=otp",
            "AUTHTALLY_KAFKA_IDEMPOTENCE": "on",
            **issuer.settings,
        }

    def examine(self, *arguments: str, **settings: str) -> Found:
        arguments = ("doctor", "--json", *(arguments or ("--backup-age", "2d")))
        done = self.deployment.run(
            *arguments, **{f"AUTHTALLY_{name.upper()}": value for name, value in settings.items()}
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        found = Found(done.exit_code, json.loads(done.stdout))
        assert {finding["check"] for finding in found.printed["findings"]} <= CHECKS.keys()
        return found


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def persistent() -> Iterator[Valkey]:
    with Valkey(options=("--appendonly", "yes")) as store:
        yield store


@pytest.fixture
def patient(
    apache_kafka: str, persistent: Valkey, issuer: LocalIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Patient]:
    monkeypatch.chdir(tmp_path)
    with redis.Redis.from_url(persistent.url) as client:
        client.flushall()
    made = Patient(apache_kafka, persistent, issuer, tmp_path)
    yield made
    made.deployment.redis.close()


def settled(client: Any, what: str, asked: list[Any]) -> None:
    """Ask a broker to change something, and wait until it has."""
    for future in getattr(client, what)(asked).values():
        future.result(10)
