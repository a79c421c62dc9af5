"""Connections to the server that has a shard, and a watch on the shard's keys that change.

The watch uses CLIENT TRACKING in broadcasting mode: the server names every key with the shard's prefix that any client
changes or deletes, or that expires, and keeps no state for it. The names arrive on a separate connection; `sync`
returns when all changes before its call have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from aggregator.ledger.store import SOCKET_TIMEOUT_S, Client

CHANNEL: Final = b"__redis__:invalidate"
SCAN_COUNT: Final = 1_000
"""Keys per SCAN: 0.2 ms of the store's time."""

Command = Sequence[Any]


class MovedAwayError(Exception):
    """The shard's slot is moving to another server, or has moved."""


class RedisConnection:
    """One connection. Replies are bytes or lists of bytes."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def call(self, *command: Any) -> Any:
        """Raises RedisError."""
        return (await self.pipe([command]))[0]

    async def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """Send all commands, then read all replies. Raises the first error among them."""
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


@asynccontextmanager
async def connect_to(client: Client, key: str) -> AsyncIterator[RedisConnection]:
    """A new connection to the server that has `key`. Raises RedisError."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        node: Any = client.get_node_from_key(key)
        made, options = node.connection_class, node.connection_kwargs
    else:
        pool: Any = client.connection_pool
        made, options = pool.connection_class, pool.connection_kwargs
    # In RESP2 messages about keys arrive like replies; other replies are the same here.
    connection = made(**{**options, "protocol": 2})
    await connection.connect()
    line = RedisConnection(connection)
    try:
        yield line
    finally:
        await line.close()


class Watch:
    """The keys that have changed since the watch began, or since they were removed from `changed`."""

    def __init__(self, line: RedisConnection, listener: RedisConnection) -> None:
        self._line = line
        self._listener = listener
        self._answered = asyncio.Event()
        self._failure: BaseException | None = None
        self.changed: set[bytes] = set()

    async def sync(self) -> None:
        """Return when every change made before the call is in `changed`. Raises RedisError."""
        # A server writes its messages about changes before it handles the next requests, so the reply to a request that
        # is sent now arrives after the messages about all earlier changes.
        flags = await self._line.call("CLIENT", "TRACKINGINFO")
        if b"on" not in flags[1] or b"broken_redirect" in flags[1]:
            raise RedisConnectionError("the server no longer reports changed keys")
        self._answered.clear()
        await self._listener.send("PING")
        async with asyncio.timeout(SOCKET_TIMEOUT_S):
            await self._answered.wait()
        if self._failure is not None:
            raise RedisConnectionError(f"the server no longer reports changed keys: {self._failure}")

    async def listen(self) -> None:
        try:
            while True:
                kind, *message = await self._listener.reply(float("inf"))
                if kind == b"message":
                    # None instead of keys means all keys: FLUSHALL.
                    if message[1] is None:
                        raise RedisConnectionError("all keys of the store were deleted meanwhile")
                    self.changed.update(message[1])
                elif kind.lower() == b"pong":
                    self._answered.set()
        except (OSError, RedisConnectionError) as error:
            self._failure = error
            self._answered.set()


@asynccontextmanager
async def watching(client: Client, key: str, base: str) -> AsyncIterator[tuple[RedisConnection, Watch]]:
    """A connection to the server that has `key`, and a watch on all keys with the prefix `base`."""
    async with connect_to(client, key) as line, connect_to(client, key) as listener:
        number = await listener.call("CLIENT", "ID")
        await listener.call("SUBSCRIBE", CHANNEL)
        await line.call("CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", "PREFIX", base)
        watch = Watch(line, listener)
        listening = asyncio.create_task(watch.listen())
        try:
            yield line, watch
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


async def names(line: RedisConnection, base: str, keep: Iterable[bytes] = ()) -> AsyncIterator[list[bytes]]:
    """All keys with the prefix `base` on the server, in batches, without those in `keep`."""
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
    """Raises MovedAwayError while the slot of `key` is moving to another node. `line` is to a Cluster's node."""
    slot = await line.call("CLUSTER", "KEYSLOT", key)
    mine = next(row for row in (await line.call("CLUSTER", "NODES")).splitlines() if b"myself" in row)
    if b"[%d-" % slot in mine:
        raise MovedAwayError(f"slot {slot} is moving to another server")
