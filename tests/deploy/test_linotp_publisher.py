"""LinOTP's reporting table into Kafka, by the query and the script that sites run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

import deploy
from deploy.demo.servers import create_topics
from schemas.events import OtpTokenCount, RecordTime, decode

ROOT = Path(deploy.__file__).parents[1]
FOLDER = ROOT / "deploy" / "publishers" / "linotp"
NOW_MS = 1_795_168_800_000
# What the SQL shells do, with nothing but Python: bind :after, print a row a line.
SHELL = """
import os, sqlite3, sys
for (row,) in sqlite3.connect(sys.argv[1]).execute(open(sys.argv[2]).read(), {"after": int(os.environ["AFTER"])}):
    print(row)
"""


def counts(broker: str, topic: str) -> list[int]:
    reader = Consumer({"bootstrap.servers": broker, "group.id": "reader", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, 0)])
    found = []
    try:
        while not (message := reader.consume(1, 10)[0]).error():
            event = decode("otp-count", message.value(), RecordTime(NOW_MS))
            assert isinstance(event, OtpTokenCount)
            assert event.id is not None
            found.append(event.count)
    finally:
        reader.close()
    return found


def test_new_rows_of_the_table_are_published_once_and_in_order(broker: str, tmp_path: Path) -> None:
    topic = f"otp-counts.{tmp_path.name}"
    create_topics(broker, {topic: 1})
    wrapper = tmp_path / "authtally"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m deploy.cli.main "$@"\n')
    wrapper.chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "AUTHTALLY": str(wrapper),
        "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": broker,
        "AUTHTALLY_KAFKA_IDEMPOTENCE": "off",
        "AUTHTALLY_TOPICS": f"{topic}=otp-count",
        "INTERVAL_S": "0",
    }
    database = sqlite3.connect(tmp_path / "linotp.db")
    database.execute("CREATE TABLE reporting (id INTEGER, timestamp, event, realm, parameter, count)")

    def write(*rows: tuple[int, int]) -> None:
        stamp = "2026-11-19 10:00:00.000000"
        held = [(number, stamp, "token_init", "acme", "total", count) for number, count in rows]
        database.executemany("INSERT INTO reporting VALUES (?, ?, ?, ?, ?, ?)", held)
        database.commit()

    def stream() -> None:
        query = (sys.executable, "-c", SHELL, "linotp.db", str(FOLDER / "reporting.sqlite.sql"))
        done = subprocess.run(
            (FOLDER / "stream.sh", *query), env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    write((1, 10), (2, 11))
    stream()
    write((5, 12))
    stream()
    stream()
    assert counts(broker, topic) == [10, 11, 12]
    assert (tmp_path / "linotp-reporting.last").read_text().strip() == "5"
    database.close()
