"""LinOTP's reporting table into Kafka, by the commands that its page prints, from the databases that LinOTP runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from confluent_kafka import Consumer, TopicPartition

import deploy
from deploy.demo.servers import create_topics
from schemas.events import OtpTokenCount, RecordTime, decode
from tests.api.dialects.linotp import recordings
from tests.servers import MariaDb, PostgreSql

ROOT = Path(deploy.__file__).parents[1]
FOLDER = ROOT / "deploy" / "publishers" / "linotp"
NOW_MS = 1_795_168_800_000
ROWS = recordings.table_rows()[:60]

SQLITE = """CREATE TABLE "REPORTING" (
    "R_ID" INTEGER NOT NULL, "R_TIMESTAMP" DATETIME, "R_EVENT" VARCHAR(250), "R_REALM" VARCHAR(250),
    "R_PARAMETER" VARCHAR(250), "R_VALUE" VARCHAR(250), "R_COUNT" INTEGER, "R_DETAIL" VARCHAR(2000),
    "R_SESSION" VARCHAR(250), "R_DESCRIPTION" VARCHAR(2000), PRIMARY KEY ("R_ID")
);"""
MYSQL = SQLITE.replace('"R_ID" INTEGER NOT NULL', '"R_ID" INTEGER NOT NULL AUTO_INCREMENT').replace('"', "`")
POSTGRESQL = SQLITE.replace('"R_ID" INTEGER NOT NULL', '"R_ID" SERIAL NOT NULL').replace(
    "DATETIME", "TIMESTAMP WITHOUT TIME ZONE"
)


def inserts(rows: list[dict[str, Any]], quote: str) -> str:
    """As LinOTP writes them: local times without an offset."""
    names = ", ".join(f"{quote}{name}{quote}" for name in rows[0])
    values = ["(" + ", ".join(literal(value) for value in row.values()) + ")" for row in rows]
    return f"INSERT INTO {quote}REPORTING{quote} ({names}) VALUES {', '.join(values)};\n"


def literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'{}'".format(str(value).replace("'", "''"))


def command(client: str) -> str:
    """The page's command line that begins with this client."""
    (found,) = re.findall(
        rf"^    (\./stream\.sh sh -c '{client} .*')$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    return str(found)


class Site:
    """A folder with the publisher, as an operator sets it up, and one topic."""

    def __init__(self, folder: Path, broker: str, command: str, environment: dict[str, str]) -> None:
        self.folder = folder / "linotp"
        shutil.copytree(FOLDER, self.folder)
        self.topic = f"otp-counts.{folder.name}"
        self._broker, self._command = broker, command
        create_topics(broker, {self.topic: 1})
        wrapper = folder / "authtally"
        wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m deploy.cli.main "$@"\n')
        wrapper.chmod(0o755)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "AUTHTALLY": str(wrapper),
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": broker,
            "AUTHTALLY_KAFKA_IDEMPOTENCE": "off",
            "AUTHTALLY_TOPICS": f"{self.topic}=otp-count",
            "INTERVAL_S": "0",
        } | environment

    def stream(self) -> None:
        done = subprocess.run(
            self._command,
            shell=True,
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def last(self) -> str:
        return (self.folder / "linotp-reporting.last").read_text().strip()

    def events(self) -> list[OtpTokenCount]:
        reader = Consumer({"bootstrap.servers": self._broker, "group.id": "reader", "enable.partition.eof": True})
        reader.assign([TopicPartition(self.topic, 0, 0)])
        found = []
        try:
            while not (message := reader.consume(1, 30)[0]).error():
                event = decode("otp-count", message.value(), RecordTime(NOW_MS))
                assert isinstance(event, OtpTokenCount)
                found.append(event)
        finally:
            reader.close()
        return found


Run = Callable[[str], None]


def as_published(zone: ZoneInfo, fraction: bool = True) -> list[tuple[object, ...]]:
    return [
        (
            _time(row["R_TIMESTAMP"], zone, fraction),
            *(row["R_EVENT"], row["R_REALM"], row["R_PARAMETER"], row["R_COUNT"]),
            *("a value", 'a "detail"; it\'s', "a session", "ü"),
        )
        for row in (row | TEXTS for row in ROWS)
    ]


TEXTS = {"R_VALUE": "a value", "R_DETAIL": 'a "detail"; it\'s', "R_SESSION": "a session", "R_DESCRIPTION": "ü"}


def _time(stamp: str, zone: ZoneInfo, fraction: bool) -> datetime:
    time = datetime.fromisoformat(stamp).replace(tzinfo=zone).astimezone(UTC)
    return time if fraction else time.replace(microsecond=0)


def published(site: Site) -> list[tuple[object, ...]]:
    return [
        (
            *(event.time, event.event, event.realm, event.status, event.count),
            *(event.value, event.detail, event.session, event.description),
        )
        for event in site.events()
    ]


def stream_in_three_steps(site: Site, run: Run, ddl: str, quote: str) -> None:
    """An operator's table: rows before the first call, more before the second, none before the third."""
    rows = [row | TEXTS for row in ROWS]
    run(ddl + "\n" + inserts(rows[:40], quote))
    site.stream()
    assert site.last == "40"
    run(inserts(rows[40:], quote))
    site.stream()
    site.stream()
    assert site.last == "60"


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDb]:
    with MariaDb() as server:
        yield server


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSql]:
    with PostgreSql() as server:
        yield server


def test_sqlite_rows_keep_their_microseconds(broker: str, tmp_path: Path) -> None:
    site = Site(tmp_path, broker, command("sqlite3"), {"TZ": "Europe/Berlin"})

    def run(sql: str) -> None:
        subprocess.run(["sqlite3", site.folder / "linotp.db"], input=sql.encode(), check=True, timeout=60)

    stream_in_three_steps(site, run, SQLITE, '"')
    assert published(site) == as_published(ZoneInfo("Europe/Berlin"))


def test_mariadb_rows_have_the_seconds_that_its_column_holds(mariadb: MariaDb, broker: str, tmp_path: Path) -> None:
    site = Site(tmp_path, broker, command("mysql"), mariadb.client_environment())
    stream_in_three_steps(site, mariadb.run, MYSQL, "`")
    # LinOTP's column is DATETIME without fractions in MySQL; the order of rows is that of their numbers.
    assert published(site) == as_published(ZoneInfo("UTC"), fraction=False)


def test_postgresql_rows_keep_their_microseconds(postgresql: PostgreSql, broker: str, tmp_path: Path) -> None:
    site = Site(tmp_path, broker, command("psql"), postgresql.client_environment())
    stream_in_three_steps(site, postgresql.run, POSTGRESQL, '"')
    assert published(site) == as_published(ZoneInfo("Europe/Berlin"))
