"""`authtally dead-letters`: what could not be counted, and sending it again once the cause is mended.

What was resent is remembered in the ledger's store, as one position per reason and partition of the dead-letter topic,
written after the broker has acknowledged the batch. A crash in between sends that batch once more: at least once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import click
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from aggregator.kafka import dead_letters as headers
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.json_output import print_json
from deploy.cli.operations import (
    Log,
    confirmed,
    consumer,
    headers_of,
    kafka_errors_as_usage,
    logs_of,
    show_table,
    with_ledger,
)
from deploy.progress import progress
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard

SAMPLES: Final = 3
BATCH: Final = 500
TIMEOUT_S: Final = 30

Resent = dict[str, int]
"""Field (topic id, partition, reason) to the offset of the dead-letter topic up to which all was resent."""


class Identity(NamedTuple):
    """One bad record or element: two letters with the same identity are copies."""

    topic: str
    partition: int
    offset: int
    place: int
    """Of the element in an array; 0 otherwise."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter topic, without its value."""

    partition: int
    offset: int
    identity: Identity
    reason: str
    detail: str
    size: int
    cut: bool
    came_back: bool


def letter_of(message: Any) -> Letter | None:
    """Read our headers; None for a message that is no dead letter of ours."""
    # The last one counts: the record's own headers stand before ours.
    foreign_and_ours = headers_of(message)
    if foreign_and_ours is None:
        # Ours are UTF-8 by name, whatever the record's were.
        return None
    given = {name: (value or b"").decode(errors="replace") for name, value in foreign_and_ours}
    try:
        identity = Identity(
            given[headers.TOPIC],
            int(given[headers.PARTITION]),
            int(given[headers.OFFSET]),
            int(given[headers.INDEX]),
        )
        return Letter(
            message.partition(),
            message.offset(),
            identity,
            given[headers.REASON],
            given.get(headers.DETAIL, ""),
            len(message.value() or b""),
            headers.TRUNCATED in given,
            headers.RESENT in given,
        )
    except (KeyError, ValueError):
        return None


def _messages(settings: WorkerSettings, logs: dict[Shard, Log], what: str = "reading") -> Iterator[Any]:
    """Every message that the dead-letter topic holds now, oldest first in each partition; tells how far it is."""
    with progress(what, "records", sum(log.end - log.start for log in logs.values())) as job:
        for number, message in enumerate(_read(settings, logs), start=1):
            yield message
            job.at(number)


def _read(settings: WorkerSettings, logs: dict[Shard, Log]) -> Iterator[Any]:
    reader = consumer(settings)
    waiting = {shard.partition for shard, log in logs.items() if log.end > log.start}
    ends = {shard.partition: log.end for shard, log in logs.items()}
    reader.assign([TopicPartition(*shard, logs[shard].start) for shard in logs if shard.partition in waiting])
    try:
        while waiting:
            message = reader.poll(TIMEOUT_S)
            if message is None:
                raise click.ClickException(f"{settings.dead_letter_topic} gave nothing for {TIMEOUT_S} s")
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise kafka_errors_as_usage(KafkaException(error))
                waiting.discard(message.partition())
                continue
            if message.offset() < ends[message.partition()]:
                yield message
            if message.offset() + 1 >= ends[message.partition()]:
                waiting.discard(message.partition())
    finally:
        reader.close()


def _logs(settings: WorkerSettings) -> dict[Shard, Log]:
    found = logs_of(settings, [settings.dead_letter_topic])
    if not found:
        raise click.ClickException(f"Kafka has no topic {settings.dead_letter_topic} (AUTHTALLY_DEAD_LETTER_TOPIC)")
    return found


def _remembered(settings: WorkerSettings) -> Resent:
    async def ask(_ledger: Ledger, client: Client) -> Resent:
        found = await cast(Any, client.hgetall(keys.resent(settings.key_prefix)))
        return {field: int(value) for field, value in found.items()}

    return with_ledger(settings, ask)


def _remember(settings: WorkerSettings, news: Resent) -> None:
    async def write(_ledger: Ledger, client: Client) -> None:
        await cast(Any, client.hset(keys.resent(settings.key_prefix), mapping=cast(Any, dict(news))))

    with_ledger(settings, write)


def show(settings: WorkerSettings, *, as_json: bool) -> None:
    """Print counts by reason, and a few samples of each: where from and why, never a value or a key."""
    logs, remembered = _logs(settings), _remembered(settings)
    counts: Counter[tuple[str, str]] = Counter()
    resent: Counter[tuple[str, str]] = Counter()
    samples: dict[str, list[Letter]] = defaultdict(list)
    copies, strange, seen = 0, 0, set()
    for message in _messages(settings, logs):
        letter = letter_of(message)
        if letter is None:
            strange += 1
            continue
        if letter.identity in seen:
            copies += 1
            continue
        seen.add(letter.identity)
        kind = letter.reason, letter.identity.topic
        counts[kind] += 1
        resent[kind] += letter.offset < remembered.get(_field_of(settings, logs, letter), 0)
        if len(samples[letter.reason]) < SAMPLES:
            samples[letter.reason].append(letter)
    if as_json:
        print_json(
            {
                "topic": settings.dead_letter_topic,
                "letters": [
                    {"reason": reason, "topic": topic, "records": number, "resent": resent[reason, topic]}
                    for (reason, topic), number in sorted(counts.items())
                ],
                "samples": [
                    {
                        "reason": letter.reason,
                        "topic": letter.identity.topic,
                        "partition": letter.identity.partition,
                        "offset": letter.identity.offset,
                        "index": letter.identity.place,
                        "bytes": letter.size,
                        "cut": letter.cut,
                        "detail": letter.detail,
                    }
                    for _reason, letters in sorted(samples.items())
                    for letter in letters
                ],
                "copies": copies,
                "foreign": strange,
            }
        )
        return
    if not counts:
        click.echo(f"{settings.dead_letter_topic} holds no dead letter.")
    else:
        rows = ((*kind, number, resent[kind]) for kind, number in sorted(counts.items()))
        show_table(("reason", "topic", "records", "resent"), rows)
        click.echo()
        show_table(
            ("reason", "topic", "partition", "offset", "index", "bytes", "detail"),
            (
                (letter.reason, *letter.identity, f"{letter.size}{' (cut)' if letter.cut else ''}", letter.detail)
                for _reason, letters in sorted(samples.items())
                for letter in letters
            ),
        )
    if copies:
        click.echo(f"{copies} more are copies that a crash in between left; they count once.")
    if strange:
        click.echo(f"{strange} messages carry none of our headers and are left alone.")


def _field_of(settings: WorkerSettings, logs: dict[Shard, Log], letter: Letter) -> str:
    shard = Shard(settings.dead_letter_topic, letter.partition)
    return fields.resent(logs[shard].topic_id, letter.partition, letter.reason)


def _unsent(
    settings: WorkerSettings, logs: dict[Shard, Log], remembered: Resent, reason: str | None, what: str = "reading"
) -> Iterator[tuple[Letter, Any]]:
    """Letters of the reason that were not resent, each identity once, with their messages."""
    seen: set[Identity] = set()
    for message in _messages(settings, logs, what):
        letter = letter_of(message)
        if letter is None or (reason is not None and letter.reason != reason):
            continue
        # Also the letters already resent: a copy of one may lie behind the position.
        copy = letter.identity in seen
        seen.add(letter.identity)
        if not copy and letter.offset >= remembered.get(_field_of(settings, logs, letter), 0):
            yield letter, message


def resend(settings: WorkerSettings, reason: str | None, yes: bool, *, as_json: bool) -> None:
    """Produce what was not resent yet to where it came from. Raises click.ClickException."""
    logs, remembered = _logs(settings), _remembered(settings)
    waiting: Counter[str] = Counter()
    range_ = came_back = 0
    for letter, _message in _unsent(settings, logs, remembered, reason):
        range_ += letter.cut
        came_back += letter.came_back and not letter.cut
        waiting[letter.reason] += not letter.cut and not letter.came_back
    waiting = +waiting
    if as_json:
        # Who reads JSON is not asked.
        sent = _send_all(settings, logs, remembered, reason) if yes and waiting else 0
        result = {"to_resend": dict(sorted(waiting.items())), "cut": range_, "came_back": came_back, "resent": sent}
        print_json(result)
        return
    if range_:
        click.echo(f"{range_} were too large to be kept whole and cannot be resent.")
    if came_back:
        click.echo(f"{came_back} were resent once and came back; they are not sent again.")
    if not waiting:
        click.echo("Nothing to resend.")
        return
    show_table(("reason", "to resend"), sorted(waiting.items()))
    if not confirmed(yes, "Resend them?"):
        return
    sent = _send_all(settings, logs, remembered, reason)
    click.echo(f"Resent {sent}. If this had been cut off, the batch in flight would have been sent once more.")


def _send_all(settings: WorkerSettings, logs: dict[Shard, Log], remembered: Resent, reason: str | None) -> int:
    try:
        return _send(settings, logs, remembered, reason)
    except KafkaException as error:
        raise kafka_errors_as_usage(error) from error


def _send(settings: WorkerSettings, logs: dict[Shard, Log], remembered: Resent, reason: str | None) -> int:
    producer = Producer(
        {**settings.kafka_producer(), "linger.ms": 5, "message.max.bytes": 2 * headers.MAX_REQUEST_BYTES}
    )
    batch: list[tuple[Letter, Any]] = []
    sent = 0
    for letter, message in _unsent(settings, logs, remembered, reason, "resending"):
        batch.append((letter, message))
        if len(batch) == BATCH:
            sent += _send_batch(settings, logs, producer, batch)
            batch.clear()
    return sent + _send_batch(settings, logs, producer, batch)


def _send_batch(
    settings: WorkerSettings, logs: dict[Shard, Log], producer: Any, batch: Sequence[tuple[Letter, Any]]
) -> int:
    """One batch: first acknowledged by the broker, then remembered. A crash in between sends it again."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            failures.append(error)

    sent = 0
    news: Resent = {}
    for letter, message in batch:
        field = _field_of(settings, logs, letter)
        news[field] = max(news.get(field, 0), letter.offset + 1)
        if letter.cut or letter.came_back:
            continue
        sent += 1
        # Names that were not UTF-8 stay escaped: this client cannot write them.
        kept = [
            (name, value)
            for name, value in message.headers()
            if not name.startswith(headers.OURS) or name == headers.RENAMED
        ]
        producer.produce(
            letter.identity.topic,
            message.value(),
            message.key(),
            # Where it was: the shard that the record's key belongs to.
            partition=letter.identity.partition,
            headers=[*kept, (headers.RESENT, "/".join(map(str, letter.identity)).encode())],
            on_delivery=delivered,
        )
    if producer.flush(TIMEOUT_S):
        raise click.ClickException(f"Kafka did not acknowledge within {TIMEOUT_S} s; repeat to go on")
    if failures:
        raise KafkaException(failures[0])
    if news:
        _remember(settings, news)
    return sent
