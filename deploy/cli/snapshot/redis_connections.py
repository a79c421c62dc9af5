"""Connections to the one server that holds a shard, and a watch over which of its keys change.

The watch is Redis's own (CLIENT TRACKING in broadcasting mode): the server names every key with the shard's beginning
that anybody changes, deletes or lets expire, workers of any version included, and remembers nothing for it. What it
names comes on a connection of its own; `sync` returns when all is there that changed before it was called.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from aggregator.ledger.store import SOCKET_TIMEOUT_S, Client

CHANNEL: Final = b"__redis__:invalidate"
SCAN_COUNT: Final = 1_000
"""Keys that one SCAN looks at: 0.2 ms of the store's time."""

Command = Sequence[Any]


class MovedAwayError(Exception):
    """The shard's slot is on its way to another server, or has gone there."""


class RedisConnection:
    """One connection. Replies are bytes, or lists of them."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def call(self, *command: Any) -> Any:
        """Raises RedisError."""
        return (await self.pipe([command]))[0]

    async def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """Send all, then read all replies. Raises the first error among them."""
        await self._connection.send_packed_command(self._connection.pack_commands(commands))
        replies = []
        failure: ResponseError | None = None
        for _ in commands:
            try:
                replies.append(await self.reply(SOCKET_TIMEOUT_S))
            except ResponseError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return replies

    async def send(self, *command: Any) -> None:
        await self._connection.send_command(*command)

    async def reply(self, timeout_s: float) -> Any:
        return await self._connection.read_response(disable_decoding=True, timeout=timeout_s)

    async def close(self) -> None:
        await self._connection.disconnect()


async def close(client: Client) -> None:
    """Close a client, and those that ask the Sentinels for it, which it leaves open."""
    await client.aclose()
    pool = None if isinstance(client, RedisCluster) else client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for asking in pool.sentinel_manager.sentinels:
            await asking.aclose()


@asynccontextmanager
async def connect_to(client: Client, key: str) -> AsyncIterator[RedisConnection]:
    """A connection of its own to the server that holds `key`. Raises RedisError."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        node: Any = client.get_node_from_key(key)
        made, options = node.connection_class, node.connection_kwargs
    else:
        pool: Any = client.connection_pool
        made, options = pool.connection_class, pool.connection_kwargs
    # Messages about keys arrive like any reply in this version of the protocol, and nothing else differs here.
    connection = made(**{**options, "protocol": 2})
    await connection.connect()
    line = RedisConnection(connection)
    try:
        yield line
    finally:
        await line.close()


class Watch:
    """The keys that have changed since it began, or since they were struck off."""

    def __init__(self, line: RedisConnection, listener: RedisConnection) -> None:
        self._line = line
        self._listener = listener
        self._answered = asyncio.Event()
        self._failure: BaseException | None = None
        self.changed: set[bytes] = set()

    async def sync(self) -> None:
        """Return when every change made before the call is in `changed`. Raises RedisError."""
        # A server writes what it has to say about changes before it turns to its next requests. So the answer to a
        # request that is sent now comes behind what was to say about all before it.
        flags = await self._line.call("CLIENT", "TRACKINGINFO")
        if b"on" not in flags[1] or b"broken_redirect" in flags[1]:
            raise RedisConnectionError("the server no longer tells which keys change")
        self._answered.clear()
        await self._listener.send("PING")
        async with asyncio.timeout(SOCKET_TIMEOUT_S):
            await self._answered.wait()
        if self._failure is not None:
            raise RedisConnectionError(f"the server no longer tells which keys change: {self._failure}")

    async def listen(self) -> None:
        try:
            while True:
                kind, *message = await self._listener.reply(float("inf"))
                if kind == b"message":
                    # None instead of keys: all of them (FLUSHALL).
                    if message[1] is None:
                        raise RedisConnectionError("the store was emptied meanwhile")
                    self.changed.update(message[1])
                elif kind.lower() == b"pong":
                    self._answered.set()
        except (OSError, RedisConnectionError) as error:
            self._failure = error
            self._answered.set()


@asynccontextmanager
async def watching(client: Client, key: str, base: str) -> AsyncIterator[tuple[RedisConnection, Watch]]:
    """A connection to the server that holds `key`, and a watch over all keys that begin with `base`."""
    async with connect_to(client, key) as line, connect_to(client, key) as listener:
        number = await listener.call("CLIENT", "ID")
        await listener.call("SUBSCRIBE", CHANNEL)
        await line.call("CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", "PREFIX", base)
        watch = Watch(line, listener)
        hearing = asyncio.create_task(watch.listen())
        try:
            yield line, watch
        finally:
            hearing.cancel()
            with suppress(asyncio.CancelledError):
                await hearing


async def names(line: RedisConnection, base: str, keep: Iterable[bytes] = ()) -> AsyncIterator[list[bytes]]:
    """All keys that begin with `base` on the server, some at a time, save those to `keep` out."""
    pattern = "".join(f"\\{char}" if char in "*?[]\\^" else char for char in base) + "*"
    kept = set(keep)
    cursor = b"0"
    while True:
        cursor, found = cast(
            tuple[bytes, list[bytes]], await line.call("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
        )
        if found := [name for name in found if name not in kept]:
            yield found
        if cursor == b"0":
            return


async def is_same_node(line: RedisConnection, key: str) -> None:
    """Raises MovedAwayError while the slot of `key` is on its way elsewhere. For a line to a Cluster's node."""
    slot = await line.call("CLUSTER", "KEYSLOT", key)
    mine = next(row for row in (await line.call("CLUSTER", "NODES")).splitlines() if b"myself" in row)
    if b"[%d-" % slot in mine:
        raise MovedAwayError(f"slot {slot} is moving to another server")
