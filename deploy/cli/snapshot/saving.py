"""`authtally snapshot save`: write the whole ledger to a file while workers run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from redis.exceptions import RedisError

from aggregator.ledger.store import Client
from aggregator.settings import FORMAT, WorkerSettings
from deploy.cli.operations import shards_held
from deploy.cli.snapshot.copying import Copied, copy_keys, copy_shard
from deploy.cli.snapshot.file import BEGIN, END, HEADER, SnapshotError, Writer
from deploy.cli.snapshot.redis_connections import MovedAwayError, connect_to
from schemas.ledger import keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.settings import effective

SUFFIX: Final = ".snapshot"
TRIES: Final = 3
COMMON: Final = "common"
"""The section of the keys that belong to no shard."""


@dataclass
class Saved:
    path: Path
    id: str
    bytes: int = 0
    seconds: float = 0.0
    shards: list[dict[str, Any]] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)


def common(prefix: str) -> dict[str, str]:
    """Keys that belong to no shard, by their name in the file. Not `shards`: a restore registers shards."""
    return {"imported": keys.imported(prefix), "resent": keys.resent(prefix), "recordings": keys.recordings(prefix)}


def place_of(file: Path, now: datetime) -> Path:
    """`file`; if it is a folder, a file in it whose name sorts by time."""
    return file / f"authtally-{now:%Y%m%dT%H%M%SZ}{SUFFIX}" if file.is_dir() else file


async def save(
    client: Client, settings: WorkerSettings, path: Path, on_progress: Callable[[str, int, int], None] = lambda *_: None
) -> Saved:
    """Write a snapshot. `on_progress` gets the shard, the number of finished ones and the number of all.

    Raises SnapshotError, RedisError, NotWholeError; no file is left then.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    saved = Saved(path, uuid4().hex)
    shards = sorted(await shards_held(client, settings))
    try:
        with Writer(path) as into:
            into.write_document(
                HEADER,
                {
                    "id": saved.id,
                    "authtally": version("authtally"),
                    "ledger_format": FORMAT,
                    "began": now.isoformat(timespec="seconds"),
                    "key_prefix": settings.key_prefix,
                    "settings": recorded(settings),
                },
            )
            into.write_document(BEGIN, {"section": COMMON})
            for short, name in common(settings.key_prefix).items():
                async with connect_to(client, name) as line:
                    await copy_keys(line, [(name, short)], into)
            into.write_document(END, {"section": COMMON})
            for done, shard in enumerate(shards):
                on_progress(shard.tag, done, len(shards))
                copied = await _copy_with_retries(client, ShardKeys(settings.key_prefix, shard), into)
                if copied is not None:
                    saved.shards.append(copied)
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            saved.bytes = into.done({"shards": saved.shards, "ended": ended})
    except OSError as error:
        # TimeoutError of a slow server is an OSError too.
        if isinstance(error, (RedisError, TimeoutError)):
            raise
        raise SnapshotError(f"{path}: {error.strerror or error}") from error
    saved.seconds = time.monotonic() - began
    return saved


async def _copy_with_retries(client: Client, shard_keys: ShardKeys, into: Writer) -> dict[str, Any] | None:
    """Copy one shard; start again if its server is lost or its slot moves meanwhile."""
    mark = into.mark()
    for tries in range(TRIES):
        try:
            into.write_document(BEGIN, {"section": shard_keys.shard.tag})
            copied = await copy_shard(client, shard_keys, into)
        except (RedisError, TimeoutError, MovedAwayError):
            if tries + 1 == TRIES:
                raise
            into.rewind(mark)
            continue
        if copied is None:
            into.rewind(mark)
            return None
        section_ = section(shard_keys.shard, copied)
        into.write_document(END, section_)
        return section_
    return None


def section(shard: Shard, copied: Copied) -> dict[str, Any]:
    """The document of a shard's END frame."""
    return {"section": shard.tag, "topic": shard.topic, "partition": shard.partition, **asdict(copied)}


def recorded(settings: WorkerSettings) -> dict[str, str]:
    """Settings as `--check` prints them, with secrets masked, as a record for later readers of the file."""
    return effective(settings)


def thin_out(folder: Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep` snapshots of a folder; returns the deleted files."""
    found = sorted(folder.glob(f"authtally-????????T??????Z{SUFFIX}"))
    old = found[:-keep] if keep else []
    for path in old:
        path.unlink()
    return old
