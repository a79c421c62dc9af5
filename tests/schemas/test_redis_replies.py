"""How each error reply of a real server is dealt with, by whichever client and in whichever words it comes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aggregator.ledger.store import describe_error
from deploy.demo.servers import Valkey, free_port
from deploy.demo.servers.process import HOST
from schemas.connections.redis_replies import REPLIES, Remedy, leave_server, reply_of
from tests.conftest import wait_until

SET: Final = "return redis.call('SET', KEYS[1], 'x')"
GET: Final = "return redis.call('GET', KEYS[1])"


@pytest.fixture(params=["valkey", "redis 7"])
def server(request: pytest.FixtureRequest) -> Iterator[Valkey]:
    binary: Path | None = request.getfixturevalue("redis_7_binary") if request.param == "redis 7" else None
    with Valkey(binary=binary, options=("--busy-reply-threshold", "10")) as server:
        yield server


def replica(connection: Any, _: Valkey) -> None:
    connection.replicaof(HOST, free_port())


def stale(connection: Any, server: Valkey) -> None:
    connection.config_set("replica-serve-stale-data", "no")
    replica(connection, server)


def full(connection: Any, _: Valkey) -> None:
    connection.config_set("maxmemory", "1")


def alone(connection: Any, _: Valkey) -> None:
    connection.config_set("min-replicas-to-write", "1")


def unable_to_save(connection: Any, server: Valkey) -> None:
    connection.config_set("save", "3600 1")
    connection.set("something", "to save")
    shutil.rmtree(server.folder)
    connection.bgsave()
    wait_until(lambda: connection.info("persistence")["rdb_last_bgsave_status"] == "err", what="a save fails")


def busy(connection: Any, server: Valkey) -> None:
    def run() -> None:
        with redis.Redis.from_url(server.url, retry=None) as other, pytest.raises(redis.RedisError):
            other.eval("while true do end", 0)

    threading.Thread(target=run, daemon=True).start()
    wait_until(lambda: is_busy(connection), what="the script runs")


def is_busy(connection: Any) -> bool:
    try:
        connection.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def kill_script(connection: Any) -> None:
    wait_until(lambda: is_busy(connection), what="the script runs")
    connection.execute_command("SCRIPT", "KILL")


def list_there(connection: Any, _: Valkey) -> None:
    connection.rpush("key", "x")


def nothing(*_: Any) -> None:
    pass


CASES: Final[dict[str, tuple[Callable[[Any, Valkey], None], str, str | Remedy | None]]] = {
    # what is done to the server, the script that is run then, and the reply's place in REPLIES, or its remedy
    "a replica": (replica, SET, "READONLY"),
    "a replica without primary": (stale, GET, "MASTERDOWN"),
    "no memory": (full, SET, "OOM"),
    "no disk": (unable_to_save, SET, "MISCONF"),
    "no replicas": (alone, SET, "NOREPLICAS"),
    "another's script": (busy, GET, "BUSY"),
    "another type": (list_there, GET, "WRONGTYPE"),
    "our script's own": (nothing, "error({err = 'LEDGER key holds a string instead of a hash'})", "LEDGER"),
    "a defect of a script": (nothing, "return nothing.there", Remedy.DEFECT),
    "a script that is none": (nothing, "return )", Remedy.DEFECT),
    "an unknown command in a script": (nothing, "return redis.call('NONE')", Remedy.DEFECT),
    "an unknown command": (nothing, "", None),
}


async def errors(url: str, script: str) -> list[BaseException]:
    """What a client raises, asked for one thing and through a pipeline."""
    words = ("EVAL", script, 1, "key") if script else ("NONE", " caused error: READONLY")
    client: Any = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)
    found: list[BaseException] = []
    try:
        for piped in (False, True):
            try:
                asked = (client.pipeline(False) if piped else client).execute_command(*words)
                await (asked.execute() if piped else asked)
            except redis.RedisError as error:
                found.append(error)
    finally:
        await client.aclose()
    return found


@pytest.mark.parametrize("case", CASES)
async def test_a_reply_is_recognised(server: Valkey, case: str) -> None:
    prepare, script, expected = CASES[case]
    with redis.Redis.from_url(server.url, retry=None) as connection:
        prepare(connection, server)
        found = await errors(server.url, script)
        if case == "another's script":
            connection.execute_command("SCRIPT", "KILL")
    assert len(found) == 2
    for error in found:
        reply = reply_of(error)
        if isinstance(expected, str):
            assert reply is REPLIES[expected], error
        else:
            assert (reply.remedy if reply else None) is expected, error
        if reply and reply.means:
            assert describe_error(error).startswith(f"AUTHTALLY_REDIS_URL: {reply.means}")


async def test_a_script_that_an_operator_ends_is_no_defect(server: Valkey) -> None:
    with redis.Redis.from_url(server.url, retry=None) as connection:
        killed = threading.Thread(target=kill_script, args=(connection,))
        killed.start()
        client: Any = Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=10)
        with pytest.raises(redis.ResponseError, match="killed") as raised:
            await client.eval("while true do end", 0)
        await client.aclose()
        killed.join()
    assert reply_of(raised.value) is None


async def test_only_a_server_that_is_not_the_one_to_ask_is_left(valkey: Valkey) -> None:
    client: Any = Redis.from_url(valkey.url)
    try:
        await client.ping()
        kept = client.connection_pool._available_connections[0]
        for word, reply in REPLIES.items():
            error = redis.ResponseError(f"{word} whatever it says")
            left = await leave_server(client, error, valkey.url)
            assert left == (reply.remedy is Remedy.RECONNECT), word
            assert kept.is_connected is not left, word
            await client.ping()
    finally:
        await client.aclose()
