"""`authtally doctor`: check everything that a site needs, and advise on each finding."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import click
from confluent_kafka import KafkaException

from aggregator.kafka import codecs
from aggregator.ledger.store import SOCKET_TIMEOUT_S, UNREACHABLE, close, connect, describe_error, diagnose_unreachable
from aggregator.settings import WorkerSettings
from api.settings.settings import ApiSettings
from deploy.cli import environment
from deploy.cli.doctor import access, ledger, redis_server, regions, retention, store, topics
from deploy.cli.doctor.findings import Finding, Verdict, count
from deploy.cli.doctor.kafka import Kafka, KafkaQueries
from deploy.cli.doctor.retention import BACKUP, Backup
from deploy.cli.doctor.topics import Needs
from deploy.cli.json_output import print_json
from deploy.cli.operations import consumer, fetched_ends
from deploy.cli.terminal import printable
from schemas.connections.redis_clients import open_server
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.outgoing import topics_by_event
from schemas.settings import PREFIX, CommonSettings, KafkaSettings, SettingsError
from schemas.telemetry import logs

PROBLEMS: Final = 1
BAD_SETTINGS: Final = 2
COLOURS: Final[Mapping[Verdict, str]] = {"ok": "green", "unknown": "blue", "warning": "yellow", "problem": "red"}
SHIPPED: Final = ("worker", "api", "operator")
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Options(NamedTuple):
    services: Collection[str]
    patience_s: float
    backup: Backup | None
    as_json: bool


def age_of(text: str) -> float:
    """`36h`, `7d`, `90m` or seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhdw]?)", text.strip().lower(), re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is not a duration such as 36h, 7d or 90m")
    return float(found[1]) * UNITS[found[2] or "s"]


def oldest_in(folder: Path, now: float) -> Backup:
    """The oldest file of a folder of backups. Raises ValueError if there is none."""
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
        oldest = min(files, key=lambda path: path.stat().st_mtime, default=None)
        if oldest is None:
            raise ValueError(f"{folder} contains no file")
        return Backup(max(now - oldest.stat().st_mtime, 0), oldest.name, certain=True)
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror}") from error


def doctor(options: Options) -> int:
    """Check everything and print the findings; the exit status."""
    logs.configure("error", "text")
    began = time.monotonic()
    findings: list[Finding] = []
    worker = _settings(WorkerSettings, "worker", findings) if "worker" in options.services else None
    api = _settings(ApiSettings, "api", findings) if "api" in options.services else None
    faulty = any(finding.verdict == "problem" for finding in findings)
    findings += asyncio.run(_Site(worker, api, options).examine())
    counts = count(findings)
    healthy = not counts["problem"]
    if options.as_json:
        result = [finding._asdict() for finding in findings]
        seconds = round(time.monotonic() - began, 3)
        print_json({"healthy": healthy, "counts": counts, "findings": result, "seconds": seconds})
    else:
        _report(findings)
    return BAD_SETTINGS if faulty else 0 if healthy else PROBLEMS


def _settings(kind: type[Any], service: str, findings: list[Finding]) -> Any:
    """The settings of a service; None, and a finding per fault, if they are wrong."""
    check = f"settings.{service}"
    try:
        values = environment.load(kind)
    except SettingsError as error:
        for fault in error.errors:
            name, colon, what = fault.partition(": ")
            subject, found = (name, what) if colon and name.startswith(PREFIX) and " " not in name else ("", fault)
            advice = "correct it, or leave this service out: --service " + ("api" if service == "worker" else "worker")
            findings.append(Finding(check, subject, "problem", found, advice))
        return None
    findings.append(Finding(check, "", "ok", "complete and consistent"))
    return values


class _Site:
    """The servers that the settings of one service, or of both, name."""

    def __init__(self, worker: WorkerSettings | None, api: ApiSettings | None, options: Options) -> None:
        self._worker, self._api, self._options = worker, api, options
        self._store: store.Store | None = None
        self._kafka: Kafka | None = None
        self._needs = _needs(worker, api)

    async def examine(self) -> list[Finding]:
        either: KafkaSettings | None = self._worker or self._api
        if either is None:
            return []
        found: list[Finding] = []
        questions = KafkaQueries(either, self._needs.operations, self._options.patience_s)
        of_kafka, of_store, of_access = await asyncio.gather(
            asyncio.to_thread(self._query_kafka, questions), self._query_store(either), self._query_access()
        )
        if self._kafka is not None:
            of_kafka += await asyncio.to_thread(self._assess_kafka, questions, either)
        found += [*of_kafka, *of_store]
        if self._store is not None and self._worker is not None:
            found += ledger.settings(self._store, self._worker)
            found += ledger.formats(self._store)
            found += ledger.records(self._store, self._kafka, int(time.time() * 1000))
            if self._kafka is not None:
                found += ledger.against_kafka(self._store, self._kafka, self._worker)
        return [*found, *of_access]

    def _query_kafka(self, questions: KafkaQueries) -> list[Finding]:
        if not self._needs.operations:
            return []
        try:
            questions.connect()
        except KafkaException as error:
            advice = "correct the setting that it names, or allow this machine to reach the brokers"
            setting, _, found = questions.diagnose(error).partition(": ")
            return [Finding("kafka.connection", setting, "problem", found, advice)]
        self._kafka = kafka = questions.found
        questions.describe(self._needs.group)
        result = f"{kafka.brokers} broker{'s' if kafka.brokers != 1 else ''} of cluster {kafka.cluster_id}"
        return [Finding("kafka.connection", "", "ok", result)]

    def _assess_kafka(self, questions: KafkaQueries, settings: KafkaSettings) -> list[Finding]:
        assert self._kafka is not None
        kafka, now_ms = self._kafka, time.time() * 1000
        oldest = self._options.backup or (redis_server.oldest_known(self._store) if self._store else None)
        moments = {ledger.LATE: int(now_ms - ledger.LATE_S * 1000)}
        if oldest is not None:
            moments[BACKUP] = int(now_ms - oldest.age_s * 1000)
        questions.read_logs(moments)
        if self._worker is not None:
            self._correct_ends(self._worker)
        inputs = dict(settings.topics)
        found = [
            *topics.topics(kafka, inputs, settings.dead_letter_topic),
            *topics.rights(kafka, self._needs),
        ]
        if self._worker is None:
            return found
        found.append(topics.group(kafka, self._worker.kafka_group, inputs))
        for name in kafka.topics:
            found += topics.configured(kafka, name)
        lacking = codecs.missing()
        found += [topics.compression(kafka, name, lacking) for name in kafka.topics if name in inputs]
        more = [retention.retention(kafka, name) for name in kafka.topics if name in inputs]
        more += [topics.dead_letters(kafka, settings.dead_letter_topic, inputs)]
        more += [*retention.backup(kafka, inputs, oldest), topics.newest(kafka, now_ms)]
        return found + [finding for finding in more if finding is not None]

    def _correct_ends(self, settings: WorkerSettings) -> None:
        """Replace log ends that are below a shard's position by those of a fetch: some brokers return too low ones."""
        assert self._kafka is not None
        held = self._store.shards if self._store else None
        positions = {shard: at for shard, (at, _) in (held or {}).items()}
        doubtful: dict[Shard, int] = {
            shard: end
            for shard, end in self._kafka.ends.items()
            if (position := positions.get(shard) or 0) > end and position != fields.RESTORING
        }
        if not doubtful:
            return
        reader = consumer(settings)
        try:
            self._kafka.ends |= fetched_ends(reader, doubtful)
        except KafkaException:
            # The ends of ListOffsets stay.
            return
        finally:
            reader.close()

    async def _query_store(self, settings: CommonSettings) -> list[Finding]:
        # A user of the shipped ACL file needs its own rights; any other user needs those of the services.
        user = urlsplit(settings.redis_url.get_secret_value()).username
        services = [name for name, there in (("worker", self._worker), ("api", self._api)) if there]
        roles = {name: commands_of(name) for name in ([user] if user in SHIPPED else services)}
        client = connect(cast(WorkerSettings, settings))
        try:
            async with asyncio.timeout(self._options.patience_s):
                self._store = await store.inspect(client, settings.key_prefix, roles)
        except UNREACHABLE as error:
            result = await diagnose_unreachable(settings, error)
            setting, found = result.split(": ", 1) if result.startswith(PREFIX) and ": " in result else ("", result)
            advice = f"correct {setting or 'the settings of Redis'}, or allow this machine to reach the server"
            return [Finding("redis.connection", setting, "problem", found, advice)]
        finally:
            await close(client)
        number = len(self._store.servers)
        answers = f"{number} servers answer" if number > 1 else "1 server answers"
        findings = [Finding("redis.connection", "", "ok", answers), *redis_server.assess(self._store, settings)]
        return [*findings, await self._query_cache(self._store)] if self._api else findings

    async def _query_cache(self, ledger: store.Store) -> Finding:
        assert self._api is not None
        if self._api.cache_redis_url is None:
            result = f"{PREFIX}CACHE_REDIS_URL is not set, which is right for a single api process only"
            return Finding("redis.cache", "", "ok", result)
        url = self._api.cache_redis_url.get_secret_value()
        client = open_server(url, SOCKET_TIMEOUT_S, self._api)
        try:
            async with asyncio.timeout(self._options.patience_s):
                info = await client.info()
        except UNREACHABLE as error:
            found = describe_error(error).partition(": ")[2]
            advice = f"correct {PREFIX}CACHE_REDIS_URL; without it, api processes do not share limits and sessions"
            return Finding("redis.cache", "", "problem", found or str(error), advice)
        finally:
            await client.aclose()
        return redis_server.cache(ledger, self._api, info)

    async def _query_access(self) -> list[Finding]:
        if self._api is None:
            return []
        found = [*access.local(self._api), *await regions.examine(self._api, self._options.patience_s)]
        return found + [finding async for finding in access.of_issuer(self._api, self._options.patience_s)]


def _needs(worker: WorkerSettings | None, api: ApiSettings | None) -> Needs:
    operations: dict[str, frozenset[str]] = {}
    if worker is not None:
        operations = dict.fromkeys(worker.topics, frozenset({"READ"})) | {
            worker.dead_letter_topic: frozenset({"WRITE"})
        }
    if api is not None and api.ingest:
        for topic in topics_by_event(api.topics).values():
            operations[topic] = operations.get(topic, frozenset()) | {"WRITE"}
    return Needs(operations, worker.kafka_group if worker else None)


def commands_of(user: str) -> set[str]:
    """The commands that the shipped ACL file allows a user."""
    text = resources.files("deploy").joinpath("redis", "users.acl").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith(f"user {user} "))
    return {word[1:] for word in line.split() if word.startswith("+") and not word.startswith("+@")}


def _report(findings: list[Finding]) -> None:
    """Print a line per finding, one for those that differ in their subject only; then the number per verdict."""
    lines: list[Finding] = []
    for area, of_area in _by_area(findings):
        click.echo(click.style(area, bold=True))
        for finding in _merged(of_area):
            lines.append(finding)
            mark = click.style(f"{finding.verdict:<8}", fg=COLOURS[finding.verdict])
            what = finding.check.partition(".")[2].replace("_", " ")
            subject = f" {printable(finding.subject)}" if finding.subject else ""
            click.echo(f"  {mark} {what}{subject}: {printable(finding.found)}")
            if finding.advice:
                click.echo(f"           → {printable(finding.advice)}")
    result = [
        f"{number} {verdict}" + ("s" if number != 1 and verdict in ("warning", "problem") else "")
        for verdict, number in count(lines).items()
        if number or verdict == "problem"
    ]
    click.echo(f"\n{', '.join(result)}.")


def _merged(findings: list[Finding]) -> Iterator[Finding]:
    """Findings that differ in their subject only, merged into one."""
    alike: dict[Finding, list[str]] = {}
    for finding in findings:
        alike.setdefault(finding._replace(subject=""), []).append(finding.subject)
    for finding, subjects in alike.items():
        yield finding._replace(subject=", ".join(filter(None, subjects)))


def _by_area(findings: list[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    areas = dict.fromkeys(finding.check.partition(".")[0] for finding in findings)
    for area in areas:
        yield area, [finding for finding in findings if finding.check.startswith(f"{area}.")]
