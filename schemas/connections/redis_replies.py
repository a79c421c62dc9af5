"""The error replies of Redis that decide about what comes next: ask elsewhere, wait, or stop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit


class Remedy(Enum):
    """What helps against an error reply."""

    RECONNECT = auto()
    """Nothing on this server. Resolve the address again, and retry."""
    WAIT = auto()
    """Retry on the same connection: somebody has to do something about the server, or it does so itself."""
    DEFECT = auto()
    """No retry: what is stored is not what it must be, or the script is wrong."""


class Reply(NamedTuple):
    """How a reply is dealt with. `means` completes the sentence `REDIS_URL: …`; empty for a defect."""

    remedy: Remedy
    means: str = ""


REPLIES: Final[Mapping[str, Reply]] = {
    "READONLY": Reply(Remedy.RECONNECT, "this server is a replica, which takes no writes"),
    "LOADING": Reply(Remedy.RECONNECT, "this server still loads its data"),
    "MASTERDOWN": Reply(Remedy.RECONNECT, "this server is a replica that has lost its primary"),
    "CLUSTERDOWN": Reply(Remedy.WAIT, "the Cluster does not serve this slot"),
    "TRYAGAIN": Reply(Remedy.WAIT, "the slot moves to another node"),
    "OOM": Reply(Remedy.WAIT, "this Redis is full: raise its maxmemory"),
    "MISCONF": Reply(Remedy.WAIT, "this Redis cannot write to its disk"),
    "BUSY": Reply(Remedy.WAIT, "somebody's script blocks this Redis"),
    "NOREPLICAS": Reply(Remedy.WAIT, "fewer replicas follow than its min-replicas-to-write"),
    "NOPERM": Reply(Remedy.WAIT, "its user may not do what it must"),
    "WRONGTYPE": Reply(Remedy.DEFECT),
    "LEDGER": Reply(Remedy.DEFECT),
}
"""By the first word of the reply. LEDGER is our own script's."""

NO_DEFECT: Final = (
    "Script killed by user",
    "attempted to access a non local key",
    "The user executing the script can't",
)
"""Of a script's errors: an operator's SCRIPT KILL, a slot that moves away, a right that the user lacks."""

NO_NODE: Final = "RedisClusterException"
"""What redis-py raises where no node of a Cluster answers; by name, since this room knows no client library."""

_IN_SCRIPT: Final = re.compile(r"user_script|[Ee]rror (?:running|compiling) script")
_WORD: Final = re.compile(r"\W*([A-Z]{2,})\b")
_OF_SENTINEL: Final = "The previous master is now a slave"
"""What redis-py makes of READONLY behind Sentinel."""


def reply_of(error: BaseException) -> Reply | None:
    """How to deal with what a client raised; None for what is no reply, or one that says nothing of the kind."""
    # A pipeline says the command first, whose arguments may hold anything; a Cluster's says it as a tuple.
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


async def leave_server(client: Any, error: BaseException, url: str) -> bool:
    """Drop the idle connections of a redis-py client if `error` says to ask elsewhere; whether it did.

    The next command resolves the address of `url` anew, asks the sentinels, or reads the Cluster's topology.
    A connection in use is left to its user, who gets the same reply.
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
    # redis-py keeps the nodes' addresses only, and the name in `url` may lead to other nodes by now.
    named = urlsplit(url)
    with suppress(Exception):  # the retry that follows raises it again
        await client.initialize(additional_startup_nodes_info=[(named.hostname or "localhost", named.port or 6379)])
