"""The signed report of a month over regions: the figures of all together, and of each with its ledger and positions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import click
from aiohttp import web

from api.ledger.client import open_ledger
from api.ledger.statistics import Statistics
from api.ledger.status import PipelineStatus
from api.regions.reader import Budget
from api.regions.regional import RegionShare
from api.regions.regions import EVERY, Regions
from api.settings.settings import ApiSettings
from deploy.cli.report.month import counted, envelope_of, labels_are_complete, positions
from schemas.ledger.periods import Month
from schemas.settings import PREFIX
from schemas.time.clock import SYSTEM

TIMEOUT_S: Final = 60.0
"""Seconds for all peers together: no one waits for a page, and the figures must be those of now."""


async def month_over_regions(
    settings: ApiSettings, month: Month, text: str, *, allow_incomplete: bool
) -> dict[str, Any]:
    """The report of a month. `text` names the regions, or is `all`.

    Raises click.ClickException for figures that are not complete; one of UNREACHABLE.
    """
    client = open_ledger(settings)
    try:
        statistics = Statistics(client, settings)
        regions = Regions(settings, statistics, client, SYSTEM)
        names = _names(regions, tuple(text.split(",")))
        async with asynccontextmanager(regions.lifespan)(web.Application()):
            result = await _report(regions, statistics, settings, month.key, names)
    finally:
        await client.close()
    faults = [_fault(region) for region in result["regions"] if not region["complete"]]
    if faults and not allow_incomplete:
        raise click.ClickException(
            f"{month.key}: not complete: {'; '.join(faults)}. Repair that, or sign with --incomplete, which records it"
        )
    return envelope_of(settings, month) | result


def _names(regions: Regions, asked: Sequence[str]) -> list[str]:
    """Raises click.BadParameter."""
    known = [regions.own, *regions.peers]
    if not regions.own:
        raise click.BadParameter(f"{PREFIX}REGION is not set: this deployment has no regions", param_hint="--region")
    if tuple(asked) == EVERY:
        return known
    for name in asked:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is no region; the regions are {', '.join(known)}", param_hint="--region"
            )
    return [name for name in known if name in asked]


async def _report(
    regions: Regions, statistics: Statistics, settings: ApiSettings, month: str, names: Sequence[str]
) -> dict[str, Any]:
    budget = Budget(time.monotonic, TIMEOUT_S)
    # Read before the figures, which therefore contain everything below these positions.
    before = await regions.over(names, budget).pipeline_status()
    together = regions.over(names, budget)
    await together.imported()
    held = await together.find_periods([month])
    if month not in held.shards:
        raise click.ClickException(f"{month}: no region has figures of this month")
    total = await counted(together, settings, month)
    shares = {share.region: share for share in together.finish()}
    figures = {name: await counted(regions.over([name], budget), settings, month, required=False) for name in names}
    after = await regions.over(names, budget).pipeline_status()
    listed = []
    for name in names:
        share, own = shares[name], name == regions.own
        peer = None if own else regions.peers[name].state.identity
        ledger = await statistics.ledger_id() if own else "" if peer is None else peer.ledger
        missing = share.state == "missing"
        listed.append(
            {
                "region": name,
                "ledger": ledger,
                **_state(share),
                "labels_complete": None if missing else labels_are_complete(_of(before, name)),
                "positions": positions(_of(before, name), _of(after, name), name),
                "figures": None if missing else figures[name],
            }
        )
    return {
        **total,
        # Clients are counted in sketches that no region exports.
        "active_clients": None,
        "complete": all(region["complete"] for region in listed),
        "region_users": regions.users,
        "regions": listed,
        "imported_from": None,
    }


def _state(share: RegionShare) -> dict[str, Any]:
    """How the region takes part. `united` is false if users of several regions may count twice in the total."""
    return {
        "complete": share.is_complete,
        "state": share.state,
        "reason": share.reason or None,
        "imported": share.imported,
        "united": not share.not_united,
    }


def _of(status: PipelineStatus, region: str) -> PipelineStatus:
    return PipelineStatus([shard for shard in status.shards if shard.region == region])


def _fault(region: Mapping[str, Any]) -> str:
    if region["imported"]:
        return f"region {region['region']} imported this month, and imported months take no part"
    why = f" ({region['reason']})" if region["reason"] else ""
    return f"region {region['region']} is {'missing' if region['state'] == 'missing' else 'not current'}{why}"
