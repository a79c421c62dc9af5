"""Shared code of the operators' commands: ledger access with a timeout, Kafka's view of partitions, output."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from operator import methodcaller
from typing import Any, Final, NamedTuple, TypeVar, cast

import click
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table

from aggregator.ledger.ledger import Ledger, LedgerDefectError
from aggregator.ledger.store import UNREACHABLE, Client, close, connect, describe_error
from aggregator.settings import WorkerSettings
from deploy.cli.terminal import echo, printable
from schemas.connections.kafka_diagnosis import diagnose
from schemas.ledger import keys
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX, KafkaSettings
from schemas.telemetry import logs

PATIENCE_S: Final = 10.0
WIDEST: Final = 100_000
"""Characters of a table's line; a cell has a name of at most 1,024, or a sentence."""
NO_ID: Final = ""
UNREACHABLE_BROKERS: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}
)
"""Errors for which a connection step by step finds the cause."""

T = TypeVar("T")
_headers = methodcaller("headers")
"""Calls `message.headers()` such that Python checks for an error that confluent-kafka set without returning NULL.

Specialised calls of C methods in the interpreter skip this check.
"""


class Log(NamedTuple):
    """One partition in Kafka: its topic's id, and the offsets `[start, end)`."""

    topic_id: str
    start: int
    end: int


def with_ledger(settings: WorkerSettings, operation: Callable[[Ledger, Client], Awaitable[T]]) -> T:
    """Run `operation` on the ledger. A store that does not answer ends the command with one line."""
    # Ledger retries forever and logs each try; a command waits PATIENCE_S and prints the last error once.
    logs.configure("error", settings.log_format)
    errors: list[str] = []

    async def conversation() -> T:
        client = connect(settings)
        ledger = Ledger(client, settings, on_error=lambda line: errors.append(line) if line else None)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await operation(ledger, client)
        finally:
            await close(client)

    try:
        return asyncio.run(conversation())
    except TimeoutError as error:
        raise click.ClickException(errors[-1] if errors else f"{PREFIX}REDIS_URL: no answer") from error
    except UNREACHABLE as error:
        raise click.ClickException(describe_error(error)) from error
    except LedgerDefectError as error:
        raise click.ClickException(f"the ledger is damaged: {error}") from error


async def shards_held(client: Client, settings: WorkerSettings) -> set[Shard]:
    """Every shard that is registered in the ledger, also of topics that TOPICS no longer names."""
    tags: Iterable[str] = await cast(Any, client.smembers(keys.shards(settings.key_prefix)))
    return {Shard.parse(tag) for tag in tags}


def kafka_errors_as_usage(error: KafkaException, settings: KafkaSettings) -> click.ClickException:
    """The error with the brokers' addresses; for a failed connection, with the setting that is the likely cause."""
    fault = error.args[0]
    if fault.code() in UNREACHABLE_BROKERS:
        return click.ClickException(diagnose(settings, (), fault.str()))
    return click.ClickException(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers}: {fault.str()}")


def consumer(settings: WorkerSettings) -> Any:
    """A consumer that joins no group, commits no offsets and reports the end of a partition."""
    return Consumer(
        {
            **settings.kafka_client(),
            "group.id": f"{settings.kafka_group}.operator",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "log_level": 0,
        }
    )


def headers_of(message: Any) -> list[tuple[str, bytes | None]] | None:
    """A message's headers; None if a header's name is not UTF-8, which this client cannot decode.

    Call it once per message from outside: after such an error confluent-kafka returns a list with null pointers in its
    tuples, and the process crashes when one is used.
    """
    try:
        return cast("list[tuple[str, bytes | None]]", _headers(message) or [])
    except (SystemError, UnicodeDecodeError):
        return None


def logs_of(settings: WorkerSettings, topics: Iterable[str]) -> dict[Shard, Log]:
    """The partitions of those topics that exist, with topic id and committed bounds. Raises click.ClickException."""
    wanted = sorted(topics)
    reader = consumer(settings)
    try:
        there = reader.list_topics(timeout=PATIENCE_S).topics
        wanted = [topic for topic in wanted if topic in there]
        if not wanted:
            return {}
        admin = AdminClient({**settings.kafka_client(), "log_level": 0})
        asked: Any = admin.describe_topics(TopicCollection(wanted), request_timeout=PATIENCE_S)
        bounds = {
            Shard(topic, partition): reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_S)
            for topic in wanted
            for partition in sorted(there[topic].partitions)
        }
        ends = fetched_ends(reader, {shard: end for shard, (_start, end) in bounds.items()})
        found = {}
        for shard, (start, _end) in bounds.items():
            described = asked[shard.topic].result()
            topic_id = str(described.topic_id) if described.topic_id else NO_ID
            found[shard] = Log(topic_id, start, ends[shard])
        return found
    except KafkaException as error:
        raise kafka_errors_as_usage(error, settings) from error
    finally:
        reader.close()


def fetched_ends(reader: Any, result: dict[Shard, int]) -> dict[Shard, int]:
    """The log ends, corrected by fetching from the given ends on.

    ListOffsets of the embedded broker counts the last batch as one record, so it may return an end that is too low.
    """
    ends = dict(result)
    reader.assign([TopicPartition(*shard, end) for shard, end in result.items()])
    unsure, deadline = set(result), time.monotonic() + PATIENCE_S
    while unsure and time.monotonic() < deadline:
        message = reader.poll(0.1)
        if message is None:
            continue
        shard, error = Shard(message.topic(), message.partition()), message.error()
        if error is None:
            ends[shard] = max(ends[shard], message.offset() + 1)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[shard] = max(ends[shard], message.offset())
            unsure.discard(shard)
        else:
            raise KafkaException(error)
    return ends


def confirmed(yes: bool, question: str, *, as_json: bool = False) -> bool:
    """Whether to make the change: `--yes`, or the answer at a terminal; otherwise prints that this was a dry run.

    With `as_json` it neither asks nor prints, because the output must be one document.
    """
    if yes or as_json:
        return yes
    if sys.stdin.isatty():
        return click.confirm(question, default=False)
    echo("Dry run: nothing was changed. Repeat with --yes to make the change.")
    return False


def show_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print columns in full. A narrow terminal breaks the lines; a shortened cell could be the one that matters."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(printable(column), no_wrap=True)
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    console = Console(width=WIDEST, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    # The last column is padded too: blank lines on a terminal that breaks lines.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
