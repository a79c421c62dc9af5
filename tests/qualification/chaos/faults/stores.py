"""The store's nodes die, stop, refuse, forget their last writes, and hand slots over."""

from __future__ import annotations

import contextlib
import os
import random
import time
from typing import Any, Final

import redis

from deploy.demo.servers.process import HOST
from schemas.ledger.keys import Shard
from tests.qualification.chaos.faults.kinds import fault, killed, stopped
from tests.qualification.chaos.network import CUTS
from tests.qualification.chaos.redis_cluster import NODE_TIMEOUT_MS, Node
from tests.qualification.chaos.site import Site
from tests.qualification.chaos.waiting import wait_for

MIGRATE_MS: Final = 5000
MOVES_ON_S: Final = 60
KEYS_AT_ONCE: Final = 10


def some_shard(site: Site, chance: random.Random) -> Shard:
    return chance.choice([shard for shard in site.ledger.lanes if shard not in site.ledger.apart])


def some_primary(site: Site, chance: random.Random) -> int:
    """A node that holds shards."""
    return site.store.owner(site.slot(some_shard(site, chance))).primary


@fault(weight=4, store=True)
def primary_killed(site: Site, chance: random.Random) -> str:
    number, away_s = some_primary(site, chance), chance.choice((0.0, chance.uniform(0, 6)))
    killed(site, site.store.nodes[number], away_s)
    return f"node {number}, away {away_s:.1f} s"


@fault(weight=1, store=True)
def all_nodes_killed(site: Site, chance: random.Random) -> str:
    """No node of the cluster answers, then all come back."""
    for node in site.store.nodes:
        node.kill()
    site.struck()
    away_s = chance.uniform(1, 8)
    time.sleep(away_s)
    for node in site.store.nodes:
        node.start()
    return f"away {away_s:.1f} s"


@fault(weight=3, store=True)
def primary_stopped(site: Site, chance: random.Random) -> str:
    """As a rule for so long that its replica takes over; then it wakes up and believes itself a primary."""
    number, stopped_s = some_primary(site, chance), chance.uniform(0.5, 3 * NODE_TIMEOUT_MS / 1000)
    stopped(site, site.store.nodes[number], stopped_s)
    return f"node {number}, {stopped_s:.1f} s"


@fault(weight=4, store=True)
def promoted_behind(site: Site, chance: random.Random) -> str:
    """A replica that has not seen the last writes takes over from a primary that lives: those writes are gone."""
    number, behind_s = some_primary(site, chance), chance.uniform(0.2, 3)
    replica = site.store.replica_of(number)
    if replica is None:
        return f"not done: node {number} has no replica"
    site.store.promote_behind(replica, behind_s)
    site.struck()
    return f"node {replica} for node {number}, {behind_s:.1f} s behind"


@fault(weight=4, store=True)
def log_cut(site: Site, chance: random.Random) -> str:
    """Power fails: a primary comes back at once, with its log of commands cut at any byte."""
    number = some_primary(site, chance)
    node = site.store.nodes[number]
    node.kill()
    site.struck()
    file = node.log_of_commands()
    size = file.stat().st_size
    floor = max(site.floor(number, file), size - site.most_cut)
    range_ = chance.randrange(floor, size + 1) if size > floor else size
    os.truncate(file, range_)
    node.start()
    return f"node {number}, {size - range_} of {size} bytes"


@fault(weight=3, store=True)
def disk_full(site: Site, chance: random.Random) -> str:
    """The log of commands cannot grow: the primary answers MISCONF to every write."""
    number, full_s = some_primary(site, chance), chance.uniform(1, 4)
    with site.store.nodes[number].full_disk(chance.randrange(20_000)):
        time.sleep(full_s)
    return f"node {number}, {full_s:.1f} s"


@fault(weight=2, store=True)
def snapshot_failed(site: Site, chance: random.Random) -> str:
    """The primary could not save itself, and answers MISCONF until it can."""
    number, full_s = some_primary(site, chance), chance.uniform(0.5, 3)
    node = site.store.nodes[number]
    node.ask("CONFIG", "SET", "rdbcompression", "no")
    with node.full_disk(-(node.log_of_commands().stat().st_size - 100)):
        node.ask("BGSAVE")
        time.sleep(full_s)
    node.ask("BGSAVE")
    wait_for(lambda: node.client.info("persistence")["rdb_last_bgsave_status"] == "ok", 30, "a snapshot")
    return f"node {number}, {full_s:.1f} s"


@fault(weight=3, store=True)
def memory_full(site: Site, chance: random.Random) -> str:
    """`maxmemory` is reached, and with noeviction nothing may be added."""
    number, full_s = some_primary(site, chance), chance.uniform(0.5, 4)
    node = site.store.nodes[number]
    node.ask("CONFIG", "SET", "maxmemory", "1mb")
    time.sleep(full_s)
    node.ask("CONFIG", "SET", "maxmemory", "0")
    return f"node {number}, {full_s:.1f} s"


@fault(weight=4)
def scripts_flushed(site: Site, chance: random.Random) -> str:
    for node in site.store.nodes:
        node.ask("SCRIPT", "FLUSH", chance.choice(("SYNC", "ASYNC")))
    return "all nodes"


@fault(weight=6, store=True)
def connection_cut(site: Site, chance: random.Random) -> str:
    """In the middle of a script's request, before its answer, or in the middle of that."""
    number, where, times = some_primary(site, chance), chance.choice(CUTS), chance.randrange(1, 6)
    port = site.store.nodes[number].announced
    site.proxy.cut(port, where, times)
    time.sleep(1)
    left = site.proxy.cut(port, where, 0)
    return f"node {number}, {where}, {times - left} times" if left < times else "not done: nothing passed"


@fault(weight=3, store=True)
def slot_moved(site: Site, chance: random.Random) -> str:
    """Key by key, as its manual says, while scripts come in."""
    shard = some_shard(site, chance)
    slot = site.slot(shard)
    number = site.store.owner(slot).primary
    target = chance.choice([other for other in site.store.primaries() if other != number])
    source, away = site.store.nodes[number], site.store.nodes[target]
    source_id, away_id = (str(node.ask("CLUSTER", "MYID")) for node in (source, away))
    _agreed(away.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id))
    _agreed(source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", away_id))
    moved = 0
    while left := source.ask("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE):
        _agreed(source.ask("MIGRATE", HOST, away.port, "", 0, MIGRATE_MS, "KEYS", *left))
        moved += len(left)
    for node in (away, source):
        _agreed(node.ask("CLUSTER", "SETSLOT", slot, "NODE", away_id))
    for other in site.store.nodes:
        with contextlib.suppress(redis.RedisError):
            other.ask("CLUSTER", "SETSLOT", slot, "NODE", away_id)
    # Its new home may not fall back behind the move.
    wait_for(lambda: site.safe_positions() is not None, 60, "the slot's new home has a copy")
    return f"{shard.tag}, {moved} keys from node {number} to node {target}"


@fault(weight=3)
def store_address_moved(site: Site, chance: random.Random) -> str:
    """The one address that workers and apis know leads to the new primary, and the old one stays up as its replica."""
    annex, behind_s = site.annex, chance.choice((0.0, chance.uniform(0, 2)))
    if annex is None:
        return "not done: this run has no such store"
    annex.wait_until_whole()
    annex.watch.clear()
    annex.prober.store_goes()
    try:
        annex.move(site.proxy, behind_s)
        mark = site.struck(annex.watch)
        wait_for(
            lambda: not mark.pending, MOVES_ON_S, lambda: f"behind the moved address these move on: {mark.pending}"
        )
    finally:
        annex.prober.store_is_back()
    return f"the old primary stayed for {behind_s:.1f} s, shards moved on {mark.slowest_s:.1f} s after it"


@fault(weight=1, store=True)
def log_rewritten(site: Site, chance: random.Random) -> str:
    """No harm by itself: it makes the log of commands short again, during normal work."""
    number = chance.randrange(len(site.store.nodes))
    rewrite(site.store.nodes[number])
    return f"node {number}"


def rewrite(node: Node) -> None:
    node.ask("BGREWRITEAOF")
    wait_for(lambda: not node.rewrites, 60, "the log is rewritten")


def _agreed(answer: Any) -> None:
    if isinstance(answer, Exception):
        raise answer
