"""Any prefix of what the store wrote down is a consistent state: from it, the log's rest leads to the same ledger."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from aggregator.ledger.ledger import Applied
from deploy.demo.servers import Valkey
from tests.aggregator import ledgers
from tests.aggregator.counting import OF, SHARD, Counting
from tests.aggregator.logs import LogRecord, logins
from tests.qualification.chaos.append_only import commands

KEEPING = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--aof-load-truncated", "yes")
SETTINGS: dict[str, Any] = {"exact_up_to": 20}
CUTS = (40, 41, 90, 200, 260)
COMMANDS, BYTES = 12, 6
"""How many of the places between two commands, and within them, a test has time for."""


class Written(NamedTuple):
    """A ledger, the log of events that it is of, and the folder of its log of commands."""

    events: list[LogRecord]
    contents: dict[str, object]
    folder: Path
    file: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("written") / "store"
    events, _ = logins(5, 300, ZoneInfo("UTC"))

    async def count(url: str) -> None:
        async with Counting(url, **SETTINGS) as counter:
            await counter.open()
            await counter.count_cut(events, CUTS)

    with Valkey(folder, options=KEEPING) as server:
        asyncio.run(count(server.url))
    # Reading sketches makes copies of them, which are no writes of the worker's: so elsewhere.
    elsewhere = folder.with_name("elsewhere")
    shutil.copytree(folder, elsewhere)
    with Valkey(elsewhere, options=KEEPING) as server, ledgers.client(server.url) as client:
        contents = ledgers.contents(client)
    (file,) = (folder / "appendonlydir").glob("*.incr.aof")
    return Written(events, contents, folder, file)


def test_every_write_of_a_shard_is_in_one_transaction_with_its_position(written: Written) -> None:
    inside, positions, writes, transactions = False, 0, 0, 0
    for _, words in commands(written.file.read_bytes()):
        name = words[0].upper()
        if name == b"MULTI":
            inside, positions, writes = True, 0, 0
        elif name == b"EXEC":
            assert positions == 1
            assert writes > 1
            inside = False
            transactions += 1
        elif OF.base.encode() in words[1]:
            assert inside, words[:2]
            writes += 1
            positions += name == b"SET" and words[1] == OF.position.encode()
    assert transactions == len(CUTS) + 2


def cuts(written: Written) -> list[int]:
    chance = random.Random(1)
    ends = [end for end, _ in commands(written.file.read_bytes())]
    size = ends[-1]
    return sorted({0, size, *chance.sample(ends, COMMANDS), *(chance.randrange(size) for _ in range(BYTES))})


async def test_any_prefix_of_the_stores_commands_leads_to_the_same_ledger(written: Written, tmp_path: Path) -> None:
    stood = set()
    for range_ in cuts(written):
        folder = tmp_path / str(range_)
        shutil.copytree(written.folder, folder)
        os.truncate(folder / "appendonlydir" / written.file.name, range_)
        with Valkey(folder, options=KEEPING) as server:
            stood.add(await count_the_rest(server.url, written.events))
            with ledgers.client(server.url) as client:
                assert ledgers.contents(client) == written.contents, f"cut at byte {range_}"
    assert len(stood) > len(CUTS) // 2


async def count_the_rest(url: str, events: list[LogRecord]) -> int | None:
    """Go on from where the ledger stands; answers where that was."""
    async with Counting(url, **SETTINGS) as counter:
        # As a worker does that is given the shard.
        found = (await counter.ledger.read_state(SHARD)).position
        await counter.ledger.register([SHARD])
        if found is None:
            await counter.open()
        start, end = found or 0, events[-1].offset + 1
        counter.remember = False
        if start < end:
            assert isinstance(await counter.count(events, start, end), Applied)
        return found
