"""`authtally positions`: show and move positions of shards, and set how many unexpected records a shard may have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import click

from aggregator.ledger.ledger import Ledger, Refused, ShardState
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.json_output import print_json
from deploy.cli.operations import NO_ID, Log, confirmed, logs_of, shards_held, show_table, with_ledger
from deploy.cli.terminal import echo
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX
from schemas.suggestions import did_you_mean

EARLIEST: Final = "earliest"
LATEST: Final = "latest"
TRIES: Final = 50
"""A running worker moves the position between reading it and writing meta; some tries succeed."""


@dataclass(frozen=True, slots=True)
class Move:
    """Effects of a move, in offsets. An offset is at most one record, because logs have gaps."""

    shard: Shard
    position: int | None
    target: int
    other_topic: bool
    twice: int
    never: int

    @property
    def in_words(self) -> list[str]:
        held = "nothing" if self.position is None else f"position {self.position}"
        lines = [f"{self.shard.topic} {self.shard.partition}: from {held} to position {self.target}"]
        if self.other_topic:
            lines.append(
                "The topic was deleted and created again: its events are added to the figures of the old topic."
            )
        if self.twice:
            lines.append(
                f"{self.twice} offsets ({self.target} to {self.target + self.twice - 1}) will be counted twice: "
                "their tokens, logins and account events are added again; active users stay right."
            )
        if self.never:
            lines.append(
                f"{self.never} offsets ({self.target - self.never} to {self.target - 1}) will not be counted at all."
            )
        if not self.twice and not self.never:
            lines.append("No offset will be counted twice or left out.")
        return lines


def target_of(to: str, log: Log) -> int:
    """The offset for `--to`. Raises click.BadParameter if the log has no such position."""
    if to == EARLIEST:
        return log.start
    if to == LATEST:
        return log.end
    if not to.isascii() or not to.isdigit():
        raise click.BadParameter(
            f"{to!r} is not an offset; allowed: {EARLIEST}, {LATEST}, or a number such as 120000", param_hint="--to"
        )
    if not log.start <= int(to) <= log.end:
        raise click.BadParameter(f"{to} is outside the log; allowed: {log.start} to {log.end}", param_hint="--to")
    return int(to)


def assess(shard: Shard, state: ShardState, log: Log, target: int) -> Move:
    """The effects of a move. Pure: reads no server."""
    known = state.meta.get("topic_id", NO_ID)
    other_topic = state.position is not None and NO_ID not in (known, log.topic_id) and known != log.topic_id
    if state.position is None or other_topic:
        # No record of this log is counted yet.
        return Move(shard, state.position, target, other_topic, twice=0, never=target - log.start)
    counted_to = min(state.position, log.end)
    unread_from = max(state.position, log.start)
    return Move(
        shard, state.position, target, False, twice=max(0, counted_to - target), never=max(0, target - unread_from)
    )


class Row(NamedTuple):
    """One shard as it is printed; None means unknown."""

    topic: str
    partition: int
    position: int | None
    start: int | None
    end: int | None
    lag: int | None
    topic_id: str
    untimed: int
    """Records without a usable timestamp."""
    unexpected: int
    """Records that were not counted because of a defect."""
    unexpected_allowed: int
    """Their allowed number: the partition stops before the next one."""
    remark: str


class Held(NamedTuple):
    """One shard in the ledger."""

    state: ShardState
    untimed: int

    @property
    def unexpected(self) -> int:
        return len(self.state.unexpected)

    @property
    def allowed(self) -> int:
        return self.state.unexpected_allowed


def show(settings: WorkerSettings, *, as_json: bool) -> None:
    """Print one line per shard of the ledger and partition of Kafka."""

    async def ask(ledger: Ledger, client: Client) -> dict[Shard, Held]:
        held = await shards_held(client, settings)
        return {shard: await _held(ledger, client, shard) for shard in sorted(held | set(in_kafka))}

    in_kafka = logs_of(settings, settings.topics)
    found = with_ledger(settings, ask)
    elsewhere = {shard.topic for shard in found} - set(settings.topics)
    in_kafka |= logs_of(settings, elsewhere)
    rows = [_row(shard, held, in_kafka.get(shard), settings) for shard, held in found.items()]
    if as_json:
        print_json({"shards": [row._asdict() for row in rows]})
        return
    columns = ("topic", "partition", "position", "start", "end", "lag", "topic id", "untimed", "unexpected", "remark")
    show_table(
        columns,
        (
            (
                *("-" if cell is None else cell for cell in row[:7]),
                row.untimed,
                f"{row.unexpected}/{row.unexpected_allowed}",
                row.remark,
            )
            for row in rows
        ),
    )


async def _held(ledger: Ledger, client: Client, shard: Shard) -> Held:
    untimed = await cast(Any, client.hget(ledger.keys(shard).progress, fields.UNTIMED))
    return Held(await ledger.read_state(shard), int(untimed or 0))


def _row(shard: Shard, held: Held, log: Log | None, settings: WorkerSettings) -> Row:
    position, counts = held.state.position, (held.untimed, held.unexpected, held.allowed)
    remark = "" if shard.topic in settings.topics else "not among TOPICS"
    if log is None:
        return Row(*shard, position, None, None, None, "no such partition", *counts, remark)
    known = held.state.meta.get("topic_id", NO_ID)
    matches = "unknown" if NO_ID in (known, log.topic_id) else "same" if known == log.topic_id else "differs"
    lag = log.end - (log.start if position is None else position)
    if position is None:
        remark = remark or "not counted yet"
    elif position > log.end:
        remark = remark or "beyond the end: stopped"
    elif position < log.start:
        remark = remark or f"{log.start - position} offsets lost to retention"
    elif held.unexpected >= held.allowed:
        remark = remark or "stops at the next unexpected record"
    if matches == "differs":
        remark = "another topic: stopped"
    return Row(*shard, position, log.start, log.end, lag, matches, *counts, remark)


def allow_unexpected(settings: WorkerSettings, shard: Shard, number: int, *, as_json: bool) -> None:
    """Set the number of unexpected records that a shard may have. Raises click.ClickException."""

    async def ask(ledger: Ledger, client: Client) -> Held | None:
        for _ in range(TRIES):
            held = await _held(ledger, client, shard)
            if held.state.position is None:
                return None
            meta = {fields.UNEXPECTED_ALLOWED: str(number)}
            if not isinstance(await ledger.adopt_settings(shard, held.state.position, meta), Refused):
                return held
        raise click.ClickException("the shard's position moved at each try, nothing was changed: repeat")

    held = with_ledger(settings, ask)
    if held is None:
        raise click.ClickException(no_such_shard(settings, shard))
    parameters = {"topic": shard.topic, "partition": shard.partition, "before": held.allowed}
    audit.record(settings, "positions allow-unexpected", parameters, number)
    full = held.unexpected >= number
    if as_json:
        print_json(
            {
                "topic": shard.topic,
                "partition": shard.partition,
                "unexpected": held.unexpected,
                "allowed_before": held.allowed,
                "allowed": number,
                "stops": full,
            }
        )
        return
    echo(f"{shard.tag} has {held.unexpected} unexpected records; allowed: {number} (before: {held.allowed}).")
    if full:
        echo(f"The partition stops at the next unexpected record: allow more than {held.unexpected}.")
    else:
        echo("If the partition had stopped because of them, a running worker continues within seconds.")


def no_such_shard(settings: WorkerSettings, shard: Shard) -> str:
    return (
        f"the ledger under {PREFIX}KEY_PREFIX={settings.key_prefix} has no counts of {shard.tag}; "
        "`authtally positions show` lists the partitions"
    )


def reset(settings: WorkerSettings, shard: Shard, to: str, yes: bool, *, as_json: bool) -> None:
    """Move one shard after printing the effects. Raises click.ClickException."""
    if shard.topic not in settings.topics:
        allowed = f"allowed: {', '.join(settings.topics)}{did_you_mean(shard.topic, settings.topics)}"
        raise click.BadParameter(f"{PREFIX}TOPICS does not name {shard.topic!r}; {allowed}", param_hint="TOPIC")
    log = logs_of(settings, [shard.topic]).get(shard)
    if log is None:
        raise click.ClickException(
            f"Kafka has no partition {shard.partition} of {shard.topic}; `authtally positions show` lists them"
        )
    target = target_of(to, log)
    state = with_ledger(settings, lambda ledger, _client: ledger.read_state(shard))
    move = assess(shard, state, log, target)
    if not as_json:
        echo("\n".join(move.in_words))
    moves = confirmed(yes, "Move it?", as_json=as_json)
    if moves and isinstance(with_ledger(settings, _write(move, log)), Refused):
        raise click.ClickException("the shard's position moved meanwhile, nothing was changed: repeat")
    if moves:
        document = _as_document(move, moved=moves)
        named = {name: document[name] for name in ("topic", "partition", "from", "to")}
        audit.record(settings, "positions reset", named, move.twice + move.never)
    if as_json:
        print_json(_as_document(move, moved=moves))
    elif moves:
        echo("Moved. A running worker continues from there with its next range.")


def _as_document(move: Move, *, moved: bool) -> dict[str, Any]:
    return {
        "topic": move.shard.topic,
        "partition": move.shard.partition,
        "from": move.position,
        "to": move.target,
        "other_topic": move.other_topic,
        "counted_twice": move.twice,
        "not_counted": move.never,
        "moved": moved,
    }


def _write(move: Move, log: Log) -> Callable[[Ledger, Client], Awaitable[object]]:
    async def write(ledger: Ledger, _client: Client) -> object:
        if move.position is None:
            return await ledger.initialize(move.shard, move.target, log.topic_id)
        meta = {"topic_id": log.topic_id}
        return await ledger.move_position(move.shard, move.position, move.target, meta, other_log=move.other_topic)

    return write
