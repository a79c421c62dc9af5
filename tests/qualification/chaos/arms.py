"""Control arms: wrong implementations, which the fault runs must detect. Run as a program with an arm's name.

`no-compare` is the worker with a script that applies whatever comes. `plain-faust` counts as Faust's documentation
shows it and commits Kafka's offsets; `faust-defaults` does so with Faust's own timeouts.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import faust

from tests.integration import plain_faust

COMPARE: Final = "if have ~= ARGV[1] then"


def no_compare() -> None:
    from aggregator.__main__ import main
    from aggregator.ledger import ledger

    if ledger.SCRIPT.count(COMPARE) != 1:
        raise ValueError("ledger.lua compares positions in another way than this arm knows")
    # A missing position must still be distinguished: opening a shard starts from it.
    script = ledger.SCRIPT.replace(COMPARE, "if have == '' and ARGV[1] ~= '' then")
    ledger.__dict__["SCRIPT"] = script
    ledger.__dict__["SCRIPT_SHA"] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    main()


def plain() -> None:
    from redis.asyncio import RedisCluster

    if os.environ.get("AUTHTALLY_REDIS_CLUSTER"):
        plain_faust.__dict__["Redis"] = RedisCluster
    faust.Worker(plain_faust.build(), loglevel="info").execute_from_commandline()


def with_defaults() -> None:
    build = faust.App
    own = ("broker_session_timeout", "broker_rebalance_timeout", "broker_heartbeat_interval")

    def app(*args: Any, **settings: Any) -> Any:
        return build(*args, **{name: value for name, value in settings.items() if name not in own})

    faust.__dict__["App"] = app
    plain()


ARMS: Final[dict[str, Callable[[], None]]] = {
    "no-compare": no_compare,
    "plain-faust": plain,
    "faust-defaults": with_defaults,
}


def program(arm: str) -> tuple[str, str]:
    """What to give to Python."""
    return str(Path(__file__)), arm


if __name__ == "__main__":
    arm = ARMS[sys.argv.pop()]
    arm()
