"""The connection to the ledger's Redis, and messages for its errors."""

from __future__ import annotations

from typing import Final

from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import AuthenticationError, RedisClusterException
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aggregator.settings import WorkerSettings
from schemas.connections.redis_clients import UNREACHABLE as UNREACHABLE
from schemas.connections.redis_clients import Client as Client
from schemas.connections.redis_clients import as_connection_errors as as_connection_errors
from schemas.connections.redis_clients import open_ledger
from schemas.connections.redis_diagnosis import diagnose_refusal, diagnose_tls
from schemas.connections.redis_replies import reply_of
from schemas.settings import CommonSettings

SOCKET_TIMEOUT_S: Final = 5.0


def connect(settings: WorkerSettings) -> Client:
    """A client of the ledger's store. It never retries: RetryingClient does, and logs it."""
    return open_ledger(settings, SOCKET_TIMEOUT_S, decode_responses=True).client


async def close(client: Client) -> None:
    """Close a client and its connections to Sentinels, which its own `aclose` leaves open."""
    await client.aclose()
    pool = None if isinstance(client, RedisCluster) else client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for asking in pool.sentinel_manager.sentinels:
            await asking.aclose()


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
