"""Faults that several suites bring about."""

from __future__ import annotations

from schemas.ledger.keys import Shard
from tests.conftest import wait_until
from tests.integration.sites import Site

MOVES_S = 40.0


def roll_back(site: Site, shard: Shard) -> None:
    """Restore an older state of a shard while ranges are queued; return when all is counted again. Needs a flow."""
    dump = site.dump_shard(shard)
    old = site.positions()[shard]
    wait_until(lambda: site.positions()[shard] > old, MOVES_S, f"{shard.tag} moves")
    newer = site.positions()[shard]
    site.restore_shard(shard, dump)
    wait_until(lambda: site.positions()[shard] > newer, MOVES_S, f"{shard.tag} is back")


def empty(site: Site) -> None:
    """FLUSHALL while ranges are queued; return once every shard is further than ever. Needs a flow."""
    before = site.positions()
    site.behind_queued_ranges("FLUSHALL")
    wait_until(lambda: all(at > before[shard] for shard, at in site.positions().items()), MOVES_S, "all is back")


def restart_from_snapshot(site: Site) -> None:
    """Kill the store and start it from a snapshot older than what it held. Needs a flow."""
    site.client.save()
    saved = site.positions()
    site.wait_until_moved(MOVES_S)
    site.store.kill()
    site.store.start()
    wait_until(
        lambda: all(at > saved[shard] for shard, at in site.positions().items()), MOVES_S, "every shard moves on"
    )
