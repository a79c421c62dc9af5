"""Classifies the error replies of Redis by what the caller does next: reconnect, wait, or stop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit


class Remedy(Enum):
    """The reaction to an error reply."""

    RECONNECT = auto()
    """This server cannot serve the command. Resolve the address again, and retry."""
    WAIT = auto()
    """Retry on the same connection: an operator must act, or the server recovers."""
    DEFECT = auto()
    """No retry: the stored data or the script is wrong."""


class Reply(NamedTuple):
    """The remedy for a reply. `means` completes the sentence `REDIS_URL: …`; empty for a defect."""

    remedy: Remedy
    means: str = ""
    refuses_one: bool = False
    """Only some commands are refused, such as all writes: others succeed."""


REPLIES: Final[Mapping[str, Reply]] = {
    "READONLY": Reply(Remedy.RECONNECT, "this server is a replica, which takes no writes", refuses_one=True),
    "LOADING": Reply(Remedy.RECONNECT, "this server is still loading its data"),
    "MASTERDOWN": Reply(Remedy.RECONNECT, "this server is a replica that has lost its primary"),
    "CLUSTERDOWN": Reply(Remedy.WAIT, "the Cluster does not serve this slot"),
    "TRYAGAIN": Reply(Remedy.WAIT, "the slot moves to another node"),
    "OOM": Reply(Remedy.WAIT, "this Redis is full: raise its maxmemory", refuses_one=True),
    "MISCONF": Reply(Remedy.WAIT, "this Redis cannot write to its disk", refuses_one=True),
    "BUSY": Reply(Remedy.WAIT, "a script blocks this Redis"),
    "NOREPLICAS": Reply(Remedy.WAIT, "this Redis has fewer replicas than its min-replicas-to-write", refuses_one=True),
    "NOPERM": Reply(Remedy.WAIT, "its user lacks a permission", refuses_one=True),
    "WRONGTYPE": Reply(Remedy.DEFECT),
    "LEDGER": Reply(Remedy.DEFECT),
}
"""By the first word of the reply. LEDGER comes from our own script."""

NO_DEFECT: Final = (
    "Script killed by user",
    "attempted to access a non local key",
    "The user executing the script can't",
)
"""Script errors that are no defect: SCRIPT KILL by an operator, a slot that moves away, a missing permission."""

NO_NODE: Final = "RedisClusterException"
"""The exception of redis-py if no node of a Cluster answers; compared by name to avoid the import."""

_IN_SCRIPT: Final = re.compile(r"user_script|[Ee]rror (?:running|compiling) script")
_WORD: Final = re.compile(r"\W*([A-Z]{2,})\b")
_OF_SENTINEL: Final = "The previous master is now a slave"
"""The text that redis-py substitutes for READONLY behind Sentinel."""


def reply_of(error: BaseException) -> Reply | None:
    """The classified reply in an exception of a client; None if it is no reply, or one without a remedy."""
    # A pipeline's text begins with the command (a tuple in a Cluster), whose arguments may contain anything.
    text = str(error).rpartition(" caused error: ")[2]
    if _OF_SENTINEL in text:
        return REPLIES["READONLY"]
    word = _WORD.match(text)
    code = getattr(error, "status_code", None) or (word.group(1) if word else "")
    if code in REPLIES:
        return REPLIES[code]
    if _IN_SCRIPT.search(text) and not any(words in text for words in NO_DEFECT):
        return Reply(Remedy.DEFECT)
    return None


def refuses_one(error: BaseException) -> bool:
    """Whether a server answered that it refuses this command, while it accepts others."""
    reply = reply_of(error)
    return reply is not None and reply.refuses_one


async def leave_server(client: Any, error: BaseException, url: str) -> bool:
    """Close the idle connections of a redis-py client if the remedy for `error` is RECONNECT; returns whether it is.

    The next command resolves the address in `url` again, asks the sentinels, or reads the Cluster's topology.
    Connections in use stay open; their users get the same reply.
    """
    reply = reply_of(error)
    no_node = type(error).__name__ == NO_NODE
    if not no_node and (reply is None or reply.remedy is not Remedy.RECONNECT):
        return False
    if hasattr(client, "nodes_manager"):
        await _leave_cluster(client, url)
    else:
        await client.connection_pool.disconnect(inuse_connections=False)
    return True


async def _leave_cluster(client: Any, url: str) -> None:
    for node in client.get_nodes():
        await node.disconnect_free_connections()
    client._initialize = True
    # redis-py keeps only the nodes' addresses; the name in `url` may resolve to other nodes by now.
    named = urlsplit(url)
    with suppress(Exception):  # the retry that follows raises it again
        await client.initialize(additional_startup_nodes_info=[(named.hostname or "localhost", named.port or 6379)])
