"""The connection to the ledger's Redis, and messages for its errors."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aggregator.settings import WorkerSettings
from schemas.connections.lost_connections import raise_as
from schemas.connections.redis_diagnosis import diagnose_refusal, diagnose_tls
from schemas.connections.redis_replies import reply_of
from schemas.connections.sentinel_url import parse_sentinel_url
from schemas.settings import CommonSettings

SOCKET_TIMEOUT_S: Final = 5.0
Client = Redis | RedisCluster
UNREACHABLE: Final = (RedisError, RedisClusterException, OSError)
"""Errors while Redis is down, full or failing over. The one for a Cluster without nodes is no RedisError."""
as_connection_errors: Final = partial(raise_as, RedisConnectionError)


def connect(settings: WorkerSettings) -> Client:
    """A client of the ledger's store; connects on first use. It never retries: RetryingClient does, and logs it."""
    url = settings.redis_url.get_secret_value()
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        # No CLIENT SETINFO: it needs an ACL permission that Redis 7.0 cannot grant.
        "driver_info": None,
    }
    if settings.uses_tls(url):
        options |= settings.redis_tls()
    if settings.redis_cluster:
        return RedisCluster.from_url(url, **options)
    if settings.redis_sentinel:
        sentinel_url = parse_sentinel_url(url)
        options["ssl"] = sentinel_url.tls
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            sentinel_url.sentinels, sentinel_kwargs=options | settings.redis_sentinel_login(), **options
        )
        return cast(
            Redis,
            sentinel.master_for(
                settings.redis_sentinel,
                db=sentinel_url.db,
                username=sentinel_url.username,
                password=sentinel_url.password,
            ),
        )
    return Redis.from_url(url, **options)


def describe_error(error: BaseException) -> str:
    """One line for a log or a health page, with the setting to check if there is one."""
    text = str(error)
    if is_auth_error(error):
        return f"AUTHTALLY_REDIS_URL: wrong or missing user or password ({text})"
    if (reply := reply_of(error)) and reply.means:
        return f"AUTHTALLY_REDIS_URL: {reply.means} ({text})"
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, RedisClusterException, OSError)):
        if tls_error := diagnose_tls(text):
            return tls_error
        return f"AUTHTALLY_REDIS_URL: no connection ({text or type(error).__name__})"
    return f"{type(error).__name__}: {text}"


async def diagnose_unreachable(settings: CommonSettings, error: BaseException) -> str:
    """`describe_error`, with the reason if a TLS server rejected our certificate. May take seconds."""
    description = describe_error(error)
    if isinstance(error, (RedisConnectionError, OSError)) and not is_auth_error(error):
        return await diagnose_refusal(settings, str(error)) or description
    return description


def is_auth_error(error: BaseException) -> bool:
    """Whether Redis rejects our credentials: waiting does not help."""
    return isinstance(error, AuthenticationError) or str(error).startswith(("NOAUTH", "WRONGPASS"))


async def preflight_error(client: Client) -> str | None:
    """Why this store must not hold a ledger, or None. Raises RedisError if it does not answer."""
    answer = await client.info("memory")
    policies = {answer.get("maxmemory_policy")} | {
        node.get("maxmemory_policy") for node in answer.values() if isinstance(node, dict)
    }
    for policy in policies - {None, "noeviction"}:
        # An evicted set or position would make figures wrong without a trace.
        return f"AUTHTALLY_REDIS_URL: this Redis evicts keys (maxmemory-policy {policy}); it must be noeviction"
    return None
