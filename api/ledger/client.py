"""The api's Redis clients, which send commands as pipelines; single server, Sentinel or Cluster."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeVar, cast

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import AuthenticationError, NoPermissionError

from api.turns import pause
from schemas.connections import redis_clients
from schemas.connections.redis_clients import UNREACHABLE as UNREACHABLE
from schemas.connections.redis_clients import as_connection_errors
from schemas.connections.redis_replies import leave_server
from schemas.settings import CommonSettings

TIMEOUT_S: Final = 0.5
"""For connecting and per reply. Instead of a longer wait, the api serves an expired answer or a 503."""

MAX_AGE_S: Final = 5.0
"""Age of a connection to one server, and so the time for which an old primary is read after a DNS change."""

CLUSTER_RETRIES: Final = 1
"""After MOVED the retry goes to the right node."""

MAX_ARGUMENTS: Final = 20_000
"""Most arguments of one pipeline: about 10 ms to pack. A single command may have more."""

REPLIES: Final = {"decode_responses": False, "protocol": 2}
"""redis-py returns replies as bytes, in the shapes of RESP2."""

AUTH_ERRORS: Final = (AuthenticationError, NoPermissionError)
"""The errors of UNREACHABLE that a retry does not fix."""

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]


class Client(Protocol):
    """The api's interface to Redis. Replies are bytes."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send all commands in order per slot; replies in this order. Raises one of UNREACHABLE.

        They form one pipeline if they have at most MAX_ARGUMENTS arguments, else several.
        """

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class ExpiringConnection:
    """A connection that reconnects at MAX_AGE_S, so that it follows a host name to a new primary.

    An old primary that becomes a replica still answers reads. ROLE would need a permission that the shipped users lack.
    A new connection costs 0.1 ms of CPU time, with TLS 1 ms, measured.
    """

    _made_at = -math.inf

    async def connect(self) -> None:
        if self.is_connected and time.monotonic() - self._made_at > MAX_AGE_S:  # type: ignore[attr-defined]
            await self.disconnect()  # type: ignore[attr-defined]
        if not self.is_connected:  # type: ignore[attr-defined]
            self._made_at = time.monotonic()
        await super().connect()  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        # The replies of a pipeline arrive together, so that reading all of them would be one long turn.
        try:
            await pause()
        except BaseException:
            # The next question would take the unread replies for its own.
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise
        return await super().read_response(*args, **options)  # type: ignore[misc]


class _PipelineClient:
    def __init__(self, redis: Any, url: str, *others: Any) -> None:
        """`others` are closed with `redis`."""
        self._redis = redis
        self._url = url
        self._others = others
        if isinstance(redis, Redis) and not isinstance(redis.connection_pool, SentinelConnectionPool):
            pool = redis.connection_pool
            pool.connection_class = type("ExpiringConnection", (ExpiringConnection, pool.connection_class), {})

    async def _targets(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """For each command, the routing options that the library cannot derive."""
        return [{}] * len(commands)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        for pipeline in pipelines(commands):
            replies += await self._run(pipeline)
        return replies

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        async def send() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for command, target in zip(commands, await self._targets(commands), strict=True):
                pipeline.execute_command(*command, **target)
            replies = cast(list[Any], await pipeline.execute())
            _raise_lost_cancellation()
            return replies

        return await self._with_retry(send)

    async def ping(self) -> None:
        # Behind Sentinel, or in a Cluster, redis-py tries several servers before it fails.
        async with asyncio.timeout(2 * TIMEOUT_S):
            await self._with_retry(self._redis.ping)

    async def _with_retry(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send once more if a server replies that another one must be asked. Raises one of UNREACHABLE."""
        try:
            with as_connection_errors():
                return await send()
        except UNREACHABLE as error:
            # A refused command had no effect, and all commands of the api can be repeated.
            if not await leave_server(self._redis, error, self._url):
                raise
        with as_connection_errors():
            return await send()

    async def close(self) -> None:
        for redis in (self._redis, *self._others):
            await redis.aclose()


class _ClusterClient(_PipelineClient):
    async def _targets(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Route EVAL_RO by its first key: redis-py would ask a server for the keys, one round trip per command.

        After MOVED or a lost connection redis-py does ask, and follows the slot.
        """
        if all(command[0] != "EVAL_RO" for command in commands):
            return [{}] * len(commands)
        await self._redis.initialize()
        return [
            {"target_nodes": self._redis.get_node_from_key(command[3])} if command[0] == "EVAL_RO" else {}
            for command in commands
        ]


def _raise_lost_cancellation() -> None:
    """Raise CancelledError if the running task was cancelled and continues.

    redis-py sends by asyncio.wait_for, which in Python 3.11 drops a cancellation that arrives in the same turn as the
    result. Without this a question would lose its deadline, and hold its place for as long as it takes.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in order, in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at the same time; the results in order. If one raises, the others are cancelled."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def pipelines(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    """The commands in order, in groups of at most MAX_ARGUMENTS arguments or of one command."""
    first, arguments = 0, 0
    for number, command in enumerate(commands):
        arguments += len(command)
        if arguments > MAX_ARGUMENTS and number > first:
            yield commands[first:number]
            first, arguments = number, len(command)
    if first < len(commands):
        yield commands[first:]


def open_url(url: str, settings: CommonSettings | None = None) -> Client:
    """A client of one server. `settings` has the TLS files for a rediss:// URL."""
    return _PipelineClient(redis_clients.open_server(url, TIMEOUT_S, settings, **REPLIES), url)


def open_shared(settings: CommonSettings, url: SecretStr | None) -> Client | None:
    """The client of the store that api processes share beside the ledger; None without one."""
    return None if url is None else open_url(url.get_secret_value(), settings)


def open_ledger(settings: CommonSettings) -> Client:
    """The client of the ledger's Redis as the settings describe it."""
    opened = redis_clients.open_ledger(settings, TIMEOUT_S, cluster_retries=CLUSTER_RETRIES, **REPLIES)
    kind = _ClusterClient if settings.redis_cluster else _PipelineClient
    return kind(opened.client, settings.redis_url.get_secret_value(), *opened.sentinels)
