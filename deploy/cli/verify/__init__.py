"""`authtally snapshot verify`: does the ledger hold what the log says? Counted again from a snapshot, and compared.

Shard by shard: a copy of the live ledger as of one position, beside it the snapshot's shard (or none), which the
worker's own code then counts on from Kafka up to that position; then every key of the two is compared. What does not
follow from the log is left out: imported months, deletes of inventory rows and what they freed, observations.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from pydantic import SecretStr

from aggregator.assignment import settings_conflict
from aggregator.ledger.store import Client, connect
from aggregator.settings import FORMAT, WorkerSettings
from deploy.cli.operations import NO_ID, Log, logs_of, shards_held, show_table
from deploy.cli.snapshot import checked, print_json, with_connection
from deploy.cli.snapshot.copying import copy_shard
from deploy.cli.snapshot.file import BEGIN, END, HEADER, Contents, Writer
from deploy.cli.snapshot.redis_connections import RedisConnection, close, connect_to
from deploy.cli.snapshot.restoring import Restored, begin, clear, entries_of, fill, finish
from deploy.cli.verify.clock import Untimed, judged
from deploy.cli.verify.compare import SINCE_FORMAT, Comparison, Difference
from deploy.cli.verify.replay import KafkaRecord, Replay, ReplayError
from deploy.progress import progress
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys

MOST: Final = 100
"""Differences of a shard that are shown, of each kind."""
AGREES: Final = 0
DIFFERS: Final = 1
BY_CLOCK: Final = 3
"""Exit status where all that differs may do so because a clock took part in counting."""


@dataclass
class Verified:
    """What became of one shard."""

    shard: Shard
    position: int | None = None
    replayed: int = 0
    keys: int = 0
    obstacle: str = ""
    """Why it cannot be verified."""
    untimed: int = 0
    """Records without a usable timestamp among those replayed, as the ledger counted them."""
    impossible: int = 0
    """Events whose time was impossible among them."""
    differences: list[Difference] = field(default_factory=list)
    more: int = 0
    """Differences beyond those."""
    by_clock: list[Difference] = field(default_factory=list)
    """Differences that may be due to the clock that untimed records were judged by."""
    more_by_clock: int = 0

    @property
    def status(self) -> int:
        if self.obstacle or self.differences:
            return DIFFERS
        return BY_CLOCK if self.by_clock else AGREES

    @property
    def verdict(self) -> str:
        if self.obstacle:
            return self.obstacle
        found, by_clock = len(self.differences) + self.more, len(self.by_clock) + self.more_by_clock
        result = f"{found} keys differ" if found else "agrees"
        if by_clock:
            result += f"; {by_clock} keys depend on the clock"
        return result

    def add(self, difference: Difference, *, by_clock: bool) -> None:
        shown = self.by_clock if by_clock else self.differences
        if len(shown) < MOST:
            shown.append(difference)
        elif by_clock:
            self.more_by_clock += 1
        else:
            self.more += 1


def verify(settings: WorkerSettings, file: Path | None, scratch_url: str | None, *, as_json: bool) -> int:
    """Verify every shard of TOPICS and print it: AGREES, DIFFERS or BY_CLOCK. Raises click.ClickException."""
    held = None if file is None else checked(file)
    logs = logs_of(settings, settings.topics)
    with ExitStack() as stack:
        url = scratch_url or stack.enter_context(_scratch_store()).url
        job = stack.enter_context(progress("verifying", "offsets"))
        scratch = _scratch_settings(settings, url)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authtally-verify-")))

        async def ask(client: Client) -> list[Verified]:
            verifying = _Verifying(settings, client, scratch, logs, file, held, folder, job.of)
            try:
                return await verifying.run()
            finally:
                await verifying.close()

        found = with_connection(settings, ask)
    statuses = {each.status for each in found}
    status = DIFFERS if DIFFERS in statuses or not found else max(statuses)
    if as_json:
        print_json(
            {
                "file": None if file is None else str(file),
                "agree": status == AGREES,
                "depends_on_clock": status == BY_CLOCK,
                "shards": [_as_document(each) for each in found],
            }
        )
    else:
        _report(found)
    return status


class _Verifying:
    def __init__(
        self,
        settings: WorkerSettings,
        live: Client,
        scratch: WorkerSettings,
        logs: Mapping[Shard, Log],
        file: Path | None,
        held: Contents | None,
        folder: Path,
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self._settings, self._live, self._logs = settings, live, logs
        self._file, self._folder, self._on_progress = file, folder, on_progress
        self._in_file = {} if held is None else {each["section"]: each for each in held.shards}
        self._replayed = scratch.model_copy(update={"key_prefix": scratch.key_prefix + "log:"})
        self._copied = scratch.key_prefix + "ledger:"
        self._scratch = connect(scratch)
        self._replay = Replay(self._replayed, self._scratch)

    async def run(self) -> list[Verified]:
        shards = await shards_held(self._live, self._settings)
        return [await self._verify(shard) for shard in sorted(shards) if shard.topic in self._settings.topics]

    async def _verify(self, shard: Shard) -> Verified:
        result = Verified(shard)
        ledger, log = ShardKeys(self._copied, shard), ShardKeys(self._replayed.key_prefix, shard)
        try:
            live = await self._copy_live(shard, ledger)
            if live is None:
                result.obstacle = "the ledger holds nothing of it"
                return result
            result.position, meta = live
            base = self._in_file.get(shard.tag)
            result.obstacle = (
                _verify_obstacle(self._settings, shard, meta, result.position, base, self._logs.get(shard)) or ""
            )
            if result.obstacle:
                return result
            start = await self._restore_base(shard, log, base, meta)
            result.replayed = result.position - start
            async with connect_to(self._scratch, log.position) as line:
                await _copy_unexpected(line, ledger, log, start)
                before, untimed = await judged(line, log), Untimed(self._settings, log)
                await self._replay_all(shard, start, result.position, untimed)
                held, logged = await judged(line, ledger), await judged(line, log)
                result.untimed, result.impossible = held.untimed - before.untimed, held.impossible - before.impossible
                comparison = Comparison(line, ledger, log)
                async for difference in comparison.differences():
                    result.add(difference, by_clock=untimed.explains(difference.key, before, held, logged))
                result.keys = comparison.keys
        except ReplayError as error:
            result.obstacle = str(error)
        finally:
            await self._clear(ledger, log)
        return result

    async def _replay_all(self, shard: Shard, start: int, end: int, untimed: Untimed) -> None:
        now_ms = int(time.time() * 1000)

        def read(records: Sequence[KafkaRecord], until: int) -> None:
            untimed.read(records, now_ms)
            self._on_progress(f"replaying {shard.tag}", until - start, end - start)

        await self._replay.run(shard, start, end, read)

    async def _copy_live(self, shard: Shard, to: ShardKeys) -> tuple[int, dict[str, str]] | None:
        """The live shard as of one position, into the scratch store; its position and meta."""
        path = self._folder / "live"
        with Writer(path) as into:
            into.write_document(HEADER, {"id": ""})
            into.write_document(BEGIN, {"section": shard.tag})
            copied = await copy_shard(self._live, ShardKeys(self._settings.key_prefix, shard), into)
            if copied is None:
                return None
            into.write_document(END, {"section": shard.tag})
            into.done({"shards": []})
        await self._restore(path, shard, to, copied.position)
        path.unlink()
        return copied.position, copied.meta

    async def _restore(self, path: Path, shard: Shard, to: ShardKeys, position: int) -> None:
        await begin(self._scratch, to, None)
        await fill(self._scratch, to, entries_of(path, shard.tag), "", Restored())
        await finish(self._scratch, to, position)

    async def _restore_base(
        self, shard: Shard, to: ShardKeys, base: Mapping[str, Any] | None, meta: Mapping[str, str]
    ) -> int:
        """What the log is replayed on top of; where that stands."""
        if base is not None and self._file is not None:
            await self._restore(self._file, shard, to, base["position"])
            return int(base["position"])
        start = self._logs[shard].start
        async with connect_to(self._scratch, to.position) as line:
            # Its settings are no figures: what it was counted with must be what it is counted with here.
            flat = [part for pair in meta.items() for part in pair]
            await line.pipe([("SET", to.position, start), ("HSET", to.meta, *flat)])
        return start

    async def _clear(self, *shards: ShardKeys) -> None:
        for of in shards:
            async with connect_to(self._scratch, of.position) as line:
                await clear(line, of, whole=True)

    async def close(self) -> None:
        self._replay.close()
        await close(self._scratch)


async def _copy_unexpected(line: RedisConnection, ledger: ShardKeys, log: ShardKeys, start: int) -> None:
    """Have the replay skip what a defect kept the ledger from counting, whether or not this version has it too."""
    held = [offset for offset in await line.call("SMEMBERS", ledger.unexpected) if int(offset) >= start]
    if held:
        await line.call("SADD", log.unexpected, *held)


def _verify_obstacle(
    settings: WorkerSettings,
    shard: Shard,
    meta: Mapping[str, str],
    position: int,
    base: Mapping[str, Any] | None,
    log: Log | None,
) -> str | None:
    """Why a shard cannot be counted again from here; None if it can."""
    if log is None:
        return "Kafka has no such partition"
    known = meta.get("topic_id", NO_ID)
    if NO_ID not in (known, log.topic_id) and known != log.topic_id:
        return f"the ledger is of topic id {known}, Kafka has {log.topic_id}"
    if differs := settings_conflict(meta, settings.counted_with(shard.topic)):
        return differs
    start = log.start if base is None else int(base["position"])
    before: Mapping[str, str] = {} if base is None else base["meta"]
    if other := _format_differs(meta, before, start):
        return other
    changed = sorted(
        name
        for name in meta
        if name.startswith(fields.since("")) and name != SINCE_FORMAT and meta.get(name) != before.get(name)
    )
    if changed:
        names = ", ".join(fields.split(name)[1].upper() for name in changed)
        return f"{names} changed on the way: only a snapshot taken since then can be verified"
    if base is None:
        if log.start:
            return f"Kafka has nothing below offset {log.start}: needs a snapshot"
        return None
    old = base["meta"].get("topic_id", NO_ID)
    if NO_ID not in (old, known) and old != known:
        return f"the snapshot is of topic id {old}, the ledger of {known}"
    if base["position"] > position:
        return f"the snapshot stands at {base['position']}, the ledger only at {position}"
    if base["position"] < log.start:
        return f"Kafka has nothing below offset {log.start}, the snapshot ends at {base['position']}"
    return None


def _format_differs(meta: Mapping[str, str], before: Mapping[str, str], start: int) -> str | None:
    """Why the rules of this version's format are not those that `[start, …)` was counted by; None if they are."""
    held = int(meta.get(fields.FORMAT, FORMAT))
    if held < FORMAT:
        return f"the ledger has format {held}, this version counts by format {FORMAT}: verify with the version before"
    since = meta.get(SINCE_FORMAT)
    if since is None or since == before.get(SINCE_FORMAT):
        return None
    upgraded_at, _ = fields.split_observation(since)
    if start >= upgraded_at:
        return None
    return (
        f"format {FORMAT} holds from offset {upgraded_at} on, and counting again would begin at {start}: "
        "verify from a snapshot that was saved since the upgrade"
    )


def _scratch_settings(settings: WorkerSettings, url: str) -> WorkerSettings:
    return settings.model_copy(
        update={
            "redis_url": SecretStr(url),
            "redis_cluster": False,
            "redis_sentinel": "",
            "key_prefix": f"authtally-verify-{secrets.token_hex(4)}:",
        }
    )


def _scratch_store() -> Any:
    from deploy.demo.servers import ServerError, Valkey

    try:
        store = Valkey()
        store.command()
    except (ImportError, ServerError) as error:
        raise click.ClickException(
            "no store to count in: name one with --scratch-url, or install authtally[demo], which carries one"
        ) from error
    return store


def _as_document(each: Verified) -> dict[str, Any]:
    return {
        "topic": each.shard.topic,
        "partition": each.shard.partition,
        "position": each.position,
        "replayed": each.replayed,
        "keys": each.keys,
        "verdict": each.verdict,
        "untimed": each.untimed,
        "impossible_times": each.impossible,
        "depends_on_clock": [difference._asdict() for difference in each.by_clock],
        "more_depend_on_clock": each.more_by_clock,
        "differences": [difference._asdict() for difference in each.differences],
        "more_differences": each.more,
    }


def _report(found: list[Verified]) -> None:
    show_table(
        ("topic", "partition", "position", "replayed", "untimed", "keys", ""),
        (
            (
                *each.shard,
                "-" if each.position is None else each.position,
                each.replayed,
                each.untimed,
                f"{each.keys:,}",
                each.verdict,
            )
            for each in found
        ),
    )
    for each in found:
        for difference in each.differences:
            click.echo(f"{each.shard.tag} {difference.key}: {difference.detail}")
        if each.more:
            click.echo(f"{each.shard.tag}: and {each.more} more")
        if each.by_clock:
            click.echo(
                f"{each.shard.tag}: {each.untimed} of its records had no usable timestamp, and were judged by the "
                f"clock; {each.impossible} events had an impossible time. These keys may differ for that alone:"
            )
        for difference in each.by_clock:
            click.echo(f"{each.shard.tag} {difference.key}: {difference.detail}")
        if each.more_by_clock:
            click.echo(f"{each.shard.tag}: and {each.more_by_clock} more")
    if not found:
        click.echo("The ledger holds no shard of these TOPICS.")
