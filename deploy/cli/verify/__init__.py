"""`authtally snapshot verify`: prove that the ledger contains exactly the counts of the log, by a replay.

Per shard, the scratch store gets a copy of the live ledger as of one position, and the snapshot's shard (or an empty
one). The worker's code replays Kafka into the latter up to that position, and every key of the two is compared. Skipped
is what does not follow from the log: imported months, deletes of inventory rows with what they freed, observations.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from aggregator.ledger.store import Client, close, connect
from aggregator.settings import WorkerSettings
from deploy.cli.operations import Log, logs_of, shards_held
from deploy.cli.snapshot import checked, print_json, with_connection
from deploy.cli.snapshot.copying import copy_shard
from deploy.cli.snapshot.file import BEGIN, END, HEADER, Contents, Writer, entries_of
from deploy.cli.snapshot.redis_connections import RedisConnection, connect_to
from deploy.cli.snapshot.restoring import Restored, begin, clear, fill, finish
from deploy.cli.verify.clock import Untimed, judged
from deploy.cli.verify.compare import Comparison
from deploy.cli.verify.obstacles import verify_obstacle
from deploy.cli.verify.replay import KafkaRecord, Replay, ReplayError
from deploy.cli.verify.result import AGREES, BY_CLOCK, Verified, print_results, status_of
from deploy.progress import progress
from schemas.ledger.keys import Shard, ShardKeys


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
    status = status_of(found)
    if as_json:
        print_json(
            {
                "file": None if file is None else str(file),
                "agree": status == AGREES,
                "depends_on_clock": status == BY_CLOCK,
                "shards": [each.as_document() for each in found],
            }
        )
    else:
        print_results(found)
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
                result.obstacle = "the ledger has no position of it"
                return result
            result.position, meta = live
            base = self._in_file.get(shard.tag)
            result.obstacle = (
                verify_obstacle(self._settings, shard, meta, result.position, base, self._logs.get(shard)) or ""
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
        """Copy the live shard as of one position into the scratch store; returns its position and meta."""
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
        """Prepare the shard into which the log is replayed; returns its position."""
        if base is not None and self._file is not None:
            await self._restore(self._file, shard, to, base["position"])
            return int(base["position"])
        start = self._logs[shard].start
        async with connect_to(self._scratch, to.position) as line:
            # The replay needs the settings with which the ledger was counted.
            flat = [part for pair in meta.items() for part in pair]
            await line.pipe([("SET", to.position, start), ("HSET", to.meta, *flat)])
        return start

    async def _clear(self, *shards: ShardKeys) -> None:
        for shard_keys in shards:
            async with connect_to(self._scratch, shard_keys.position) as line:
                await clear(line, shard_keys, whole=True)

    async def close(self) -> None:
        self._replay.close()
        await close(self._scratch)


async def _copy_unexpected(line: RedisConnection, ledger: ShardKeys, log: ShardKeys, start: int) -> None:
    """Make the replay skip the ledger's unexpected records, whether or not this version still has the defect."""
    held = [offset for offset in await line.call("SMEMBERS", ledger.unexpected) if int(offset) >= start]
    if held:
        await line.call("SADD", log.unexpected, *held)


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
            "no Redis to replay into: name one with --scratch-url, or install authtally[demo], which contains one"
        ) from error
    return store
