"""The one place that opens Redis clients: a single server, a primary behind Sentinel, or a Cluster.

Opening sends nothing; a client connects at its first command. It never retries: the caller does, and logs it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import redis
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry as BlockingRetry

from schemas.connections.lost_connections import raise_as
from schemas.connections.redis_settings import RedisConnectionSettings
from schemas.connections.sentinel_url import parse_sentinel_url

Client = Redis | RedisCluster

UNREACHABLE: Final = (RedisError, RedisClusterException, OSError)
"""Raised while Redis is down, full, loading, failing over, or refuses us. A Cluster without nodes is no RedisError."""

as_connection_errors: Final = partial(raise_as, RedisConnectionError)


class OpenedLedger(NamedTuple):
    """A client of the ledger's Redis, and its clients of the Sentinels; close all of them."""

    client: Client
    sentinels: tuple[Redis, ...] = ()


def open_server(url: str, timeout_s: float, settings: RedisConnectionSettings | None = None, **options: Any) -> Redis:
    """A client of one server. `settings` has the TLS files for a rediss:// URL; None is the system's authorities."""
    return Redis.from_url(url, **_options(url, timeout_s, settings) | options)


def open_blocking(url: str, timeout_s: float, **options: Any) -> redis.Redis:
    """A client of one server for code without an event loop."""
    once = {"retry": BlockingRetry(NoBackoff(), 0)}
    return redis.Redis.from_url(url, **_options(url, timeout_s, None) | once | options)


def open_ledger(
    settings: RedisConnectionSettings, timeout_s: float, *, cluster_retries: int = 0, **options: Any
) -> OpenedLedger:
    """The ledger's Redis as the settings describe it. `timeout_s` limits connecting and each reply."""
    url = settings.redis_url.get_secret_value()
    if settings.redis_cluster:
        retry = {"retry": Retry(NoBackoff(), cluster_retries)}
        return OpenedLedger(RedisCluster.from_url(url, **_options(url, timeout_s, settings) | retry | options))
    if settings.redis_sentinel:
        return _open_behind_sentinel(settings, _options(url, timeout_s, settings) | options)
    return OpenedLedger(open_server(url, timeout_s, settings, **options))


def _open_behind_sentinel(settings: RedisConnectionSettings, options: dict[str, Any]) -> OpenedLedger:
    url = parse_sentinel_url(settings.redis_url.get_secret_value())
    options = options | {"ssl": url.tls}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        url.sentinels, sentinel_kwargs=options | settings.redis_sentinel_login(), **options
    )
    primary = sentinel.master_for(settings.redis_sentinel, db=url.db, username=url.username, password=url.password)
    return OpenedLedger(primary, tuple(sentinel.sentinels))


def _options(url: str, timeout_s: float, settings: RedisConnectionSettings | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # redis-py's default is ten attempts with a wait after each: a caller would hang for a minute.
        "retry": Retry(NoBackoff(), 0),
        # CLIENT SETINFO needs its own permission, which Redis 7.0 cannot grant.
        "driver_info": None,
    }
    return options | settings.redis_tls() if settings is not None and settings.uses_tls(url) else options
