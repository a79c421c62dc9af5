"""`authtally dead-letters resend`: send dead letters to their original topics again.

The ledger stores one position per reason and partition of the dead-letter topic: everything below it was resent. The
position is written after the broker has acknowledged a batch, so a crash between the two sends that batch once more.

A letter that came back is not sent again. Its header is only a claim, so the letter that it names must be in the topic,
with the same value and from a lower offset: a producer that marks its own records can hide only copies of a letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, cast

import click
from confluent_kafka import KafkaError, KafkaException, Producer

from aggregator.kafka import dead_letters as headers
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.dead_letters.topic import TIMEOUT_S, DeadLetterTopic, Identity, Letter, letter_of, mark
from deploy.cli.json_output import print_json
from deploy.cli.operations import confirmed, kafka_errors_as_usage, show_table, with_ledger
from deploy.cli.terminal import echo
from schemas.ledger import keys
from schemas.settings import PREFIX

BATCH: Final = 500

Obstacle = Literal["cut", "came_back", "unbound"]
OBSTACLES: Final[dict[Obstacle, str]] = {
    "cut": "were too large to be kept whole and cannot be resent.",
    "came_back": "were resent once and came back; they are not sent again.",
    "unbound": f"name a topic that {PREFIX}TOPICS does not bind and are not sent there.",
}
"""Letters that are not resent. A later run passes over them too."""

Resent = dict[str, int]
"""Field (topic id, partition, reason) to the offset of the dead-letter topic below which everything was resent."""


def read_resent(settings: WorkerSettings) -> Resent:
    async def read(_ledger: Ledger, client: Client) -> Resent:
        found = await cast(Any, client.hgetall(keys.resent(settings.key_prefix)))
        return {field: int(value) for field, value in found.items()}

    return with_ledger(settings, read)


def _write_resent(settings: WorkerSettings, changed: Resent) -> None:
    async def write(_ledger: Ledger, client: Client) -> None:
        await cast(Any, client.hset(keys.resent(settings.key_prefix), mapping=cast(Any, dict(changed))))

    with_ledger(settings, write)


def resend(settings: WorkerSettings, reason: str | None, yes: bool, *, as_json: bool) -> None:
    """Send the letters that were not resent yet to their original partitions. Raises click.ClickException."""
    resending = _Resending(settings, reason)
    waiting: Counter[str] = Counter()
    kept: Counter[Obstacle] = Counter()
    for letter in resending.letters():
        obstacle = resending.obstacle(letter)
        if obstacle is None:
            waiting[letter.reason] += 1
        else:
            kept[obstacle] += 1
    if as_json:
        # No question with --json: its output must be one document.
        sent = _send(settings, resending, reason) if yes and waiting else 0
        counts = {name: kept[name] for name in OBSTACLES}
        print_json({"to_resend": dict(sorted(waiting.items())), **counts, "resent": sent})
        return
    for name, why in OBSTACLES.items():
        if kept[name]:
            echo(f"{kept[name]} {why}")
    if not waiting:
        echo("Nothing to resend.")
        return
    show_table(("reason", "to resend"), sorted(waiting.items()))
    if not confirmed(yes, "Resend them?"):
        return
    echo(f"Resent {_send(settings, resending, reason)}.")


def _send(settings: WorkerSettings, resending: _Resending, reason: str | None) -> int:
    sent = resending.send_all()
    audit.record(settings, "dead-letters resend", {"reason": reason or "all"}, sent)
    return sent


class _Resending:
    """One run over the letters of a reason, or over all (None)."""

    def __init__(self, settings: WorkerSettings, reason: str | None) -> None:
        self._settings, self._reason = settings, reason
        self._topic = DeadLetterTopic(settings)
        self._resent = read_resent(settings)
        self._marks: set[bytes] = set()
        """Of every letter read so far."""

    def obstacle(self, letter: Letter) -> Obstacle | None:
        """Why a letter is not resent. Anyone who may write to the dead-letter topic can name any topic in a header."""
        if letter.cut:
            return "cut"
        if letter.identity.topic not in self._settings.topics:
            return "unbound"
        return "came_back" if self._came_back(letter) else None

    def _came_back(self, letter: Letter) -> bool:
        claim = letter.resent_from
        if claim is None or mark(claim, letter.digest) not in self._marks:
            return False
        # Otherwise two forged records could name each other.
        return _offset(claim) < letter.identity.offset

    def letters(self) -> Iterator[Letter]:
        """The letters of `unsent`, for each of which `obstacle` is right from then on: claims come last."""
        claims = []
        for letter, _message in self.unsent():
            if letter.resent_from is None:
                yield letter
            else:
                claims.append(letter)
        # The letter that a claim names may be in a later partition of the topic.
        yield from claims

    def unsent(self, label: str = "reading") -> Iterator[tuple[Letter, Any]]:
        """Letters that were not resent, each identity once, with their messages."""
        seen: set[Identity] = set()
        for message in self._topic.messages(label):
            letter = letter_of(message)
            if letter is None:
                continue
            self._marks.add(letter.mark)
            if self._reason is not None and letter.reason != self._reason:
                continue
            # Letters below the position count as seen too: a copy of one may lie above it.
            copy = letter.identity in seen
            seen.add(letter.identity)
            if not copy and letter.offset >= self._resent.get(self._topic.resent_field(letter), 0):
                yield letter, message

    def send_all(self) -> int:
        """Send all; the number of records sent. Raises click.ClickException."""
        try:
            return self._send()
        except KafkaException as error:
            raise kafka_errors_as_usage(error, self._settings) from error

    def _send(self) -> int:
        producer = Producer(
            {**self._settings.kafka_producer(), "linger.ms": 5, "message.max.bytes": 2 * headers.MAX_REQUEST_BYTES}
        )
        batch: list[tuple[Letter, Any]] = []
        sent = 0
        for letter, message in self.unsent("resending"):
            batch.append((letter, message))
            if len(batch) == BATCH:
                sent += self._send_batch(producer, batch)
                batch.clear()
        return sent + self._send_batch(producer, batch)

    def _send_batch(self, producer: Any, batch: Sequence[tuple[Letter, Any]]) -> int:
        """Send one batch, wait for the acknowledgements, then store the positions."""
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Any) -> None:
            if error is not None:
                failures.append(error)

        sent = 0
        changed: Resent = {}
        for letter, message in batch:
            field = self._topic.resent_field(letter)
            changed[field] = max(changed.get(field, 0), letter.offset + 1)
            if self.obstacle(letter) is not None:
                continue
            sent += 1
            # Header names that were not UTF-8 stay escaped, because this client cannot write them.
            kept = [
                (name, value)
                for name, value in message.headers()
                if not name.startswith(headers.OURS) or name == headers.RENAMED
            ]
            producer.produce(
                letter.identity.topic,
                message.value(),
                message.key(),
                # The original partition: the record's key belongs to that shard.
                partition=letter.identity.partition,
                headers=[*kept, (headers.RESENT, "/".join(map(str, letter.identity)).encode())],
                on_delivery=delivered,
            )
        if producer.flush(TIMEOUT_S):
            raise click.ClickException(f"Kafka did not acknowledge within {TIMEOUT_S} s; repeat the command")
        if failures:
            raise KafkaException(failures[0])
        if changed:
            _write_resent(self._settings, changed)
        return sent


def _offset(claim: bytes) -> int:
    """The offset of an identity that `mark` has confirmed."""
    return int(claim.rsplit(b"/", 2)[1])
