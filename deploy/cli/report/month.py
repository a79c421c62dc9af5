"""Signs and verifies the report of a month: its figures, the settings they were counted with, the log positions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import orjson

from api.ledger.client import UNREACHABLE, open_ledger
from api.ledger.distinct_query import ActiveUsers
from api.ledger.imported import Imported
from api.ledger.statistics import Counts, Statistics
from api.ledger.status import PipelineStatus
from deploy.cli.operations import show_table
from deploy.cli.report.signing import SignatureError, private_key, public_key, read_file, signed_with, verified
from deploy.cli.terminal import echo, printable_json
from schemas.ledger import fields
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from schemas.settings import PREFIX, CommonSettings

NOT_REPORTED: Final = frozenset({"topic_id", "user_hash_key"})
"""Fields of meta that `settings` lacks: the first is reported beside it, the second is useless without the key."""


def sign(
    settings: CommonSettings,
    key_file: Path,
    text: str | None,
    output: Path | None,
    over_regions: Callable[[Month], Coroutine[Any, Any, dict[str, Any]]] | None = None,
) -> None:
    """Write the signed report of a month; by default the last complete one. Raises click.ClickException.

    `over_regions` makes the report of several regions; without it the report is that of the own ledger.
    """
    key = private_key(key_file)
    today = Month.of(datetime.now(settings.zone).date())
    try:
        month = Month.of_key(text) if text else today.plus(-1)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from error
    try:
        result = asyncio.run(over_regions(month) if over_regions else _month(settings, month))
    except UNREACHABLE as error:
        raise click.ClickException(f"{PREFIX}REDIS_URL: {error or type(error).__name__}") from error
    result["to_date"] = month >= today
    envelope = orjson.dumps(signed_with(key, result), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        click.echo(envelope, nl=False)
        return
    try:
        output.write_bytes(envelope)
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from error
    echo(f"Signed the report of {month.key}: {output}")


def verify(file: Path, key_file: Path, *, as_json: bool) -> None:
    """Print a report if its signature is valid. Raises click.ClickException."""
    key = public_key(key_file)
    try:
        signed = verified(read_file(file), key)
    except SignatureError as error:
        raise click.ClickException(f"{file}: {error}") from error
    if as_json:
        click.echo(printable_json(orjson.dumps(signed, option=orjson.OPT_INDENT_2).decode()))
        return
    echo(f"{file}: the signature is valid; signed on {signed['made']}.")
    title = signed["month"] + (" (to date)" if signed["to_date"] else "")
    show_table(
        ("month", "active users", "error", "logins", "failed logins", "tokens"),
        [
            (title, *_row(signed)),
            *(
                (f"  {region['region']}", *(("missing",) * 5 if region["figures"] is None else _row(region["figures"])))
                for region in signed.get("regions", ())
            ),
        ],
    )
    if "regions" in signed:
        _show_regions(signed)
        return
    if signed["imported_from"] is not None:
        echo(f"Imported from {signed['imported_from']}: no log covers it.")
        return
    show_table(
        ("topic", "partition", "topic id", "covered up to", "lost"),
        ((row["topic"], row["partition"], row["topic_id"], row["offset"], row["lost"]) for row in signed["positions"]),
    )


async def _month(settings: CommonSettings, month: Month) -> dict[str, Any]:
    client = open_ledger(settings)
    try:
        statistics = Statistics(client, settings)
        # Read before the figures, which therefore contain everything below these positions.
        before = await statistics.pipeline_status()
        imported = (await statistics.imported()).get(month.key)
        if imported is not None:
            result = _imported(imported)
        else:
            clients = await statistics.active_clients(month.key)
            result = await counted(statistics, settings, month.key) | {
                "active_clients": _users(clients),
                "imported_from": None,
            }
        after = await statistics.pipeline_status()
        ledger = await statistics.ledger_id()
    finally:
        await client.close()
    return {
        **envelope_of(settings, month),
        "ledger": ledger,
        "labels_complete": labels_are_complete(before),
        "positions": positions(before, after),
        **result,
    }


def envelope_of(settings: CommonSettings, month: Month) -> dict[str, Any]:
    """The members that every report has."""
    return {
        "month": month.key,
        "timezone": settings.timezone,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "authtally": version("authtally"),
        "key_prefix": settings.key_prefix,
    }


def labels_are_complete(status: PipelineStatus) -> bool:
    """False if realms overflowed: their figures are then those of the realm `__other__`. Totals are not affected."""
    return not status.overflowed("realm")


def positions(before: PipelineStatus, after: PipelineStatus, region: str = "") -> list[dict[str, Any]]:
    """The positions that the figures cover: everything below `offset`, and nothing from `offset_after` on.

    Another region does not export the ids of its topics.
    """
    later = {shard.keys.shard: shard.position for shard in after.shards}
    return [
        {
            "topic": shard.keys.shard.topic.removeprefix(f"{region}/"),
            "partition": shard.keys.shard.partition,
            "topic_id": shard.meta.get("topic_id", ""),
            "offset": shard.position,
            "offset_after": later.get(shard.keys.shard),
            "lost": shard.progress.get(fields.LOST, 0),
            "settings": dict(sorted((name, value) for name, value in shard.meta.items() if name not in NOT_REPORTED)),
        }
        for shard in before.shards
    ]


async def counted(
    statistics: Statistics, settings: CommonSettings, month: str, *, required: bool = True
) -> dict[str, Any]:
    """The figures of a month, in total and by realm. Raises click.ClickException if they are required and missing."""
    held = await statistics.find_periods([month])
    if required and month not in held.shards:
        raise click.ClickException(f"{month}: the ledger has no figures of this month")
    realms: list[Scope] = []
    if "realm" in settings.users_by and "realm" in settings.counts_by:
        known = {scope for scope in await statistics.labels() if scope.dimension == "realm"}
        realms = sorted(known | {Scope("realm", (OTHER,))})
    scopes = [EVERYTHING, *realms]
    users = await statistics.users.count([held.distinct_query([month], [scope]) for scope in scopes])
    result = {}
    for scope, active in zip(scopes, users, strict=True):
        counts = (await statistics.sum_counts(held, [month], [scope]))[month]
        result[scope] = _figures(active, counts)
    return {
        **result[EVERYTHING],
        "realms": [
            {"realm": scope.names[0], **result[scope]} for scope in realms if result[scope] != _figures(_NO_USERS, {})
        ],
    }


def _imported(found: Imported) -> dict[str, Any]:
    """An imported month stands, even if events of it were counted here."""
    return {
        **_figures(_NO_USERS, found.counts),
        "active_users": {"value": found.active, "exact": False, "standard_error": None},
        "active_clients": _users(_NO_USERS),
        "realms": [],
        "imported_from": found.source,
    }


_NO_USERS = ActiveUsers(0, 0.0)


def _figures(active: ActiveUsers, counts: Counts | Mapping[tuple[str, ...], int]) -> dict[str, Any]:
    login, failed, token, account = (
        fields.split(name)[0] for name in (fields.LOGIN, fields.failed(""), fields.token("", ""), fields.account(""))
    )
    rows = sorted(counts.items())
    failures = [{"reason": names[1], "count": count} for names, count in rows if names[0] == failed]
    return {
        "active_users": _users(active),
        "logins": {
            "succeeded": counts.get((login,), 0),
            "failed": sum(row["count"] for row in failures if isinstance(row["count"], int)),
            "failed_by_reason": failures,
        },
        "tokens": [
            {"grant_type": names[1], "token_type": names[2], "count": count}
            for names, count in rows
            if names[0] == token
        ],
        "accounts": [{"kind": names[1], "count": count} for names, count in rows if names[0] == account],
    }


def _row(figures: Mapping[str, Any]) -> tuple[str, ...]:
    users, logins = figures["active_users"], figures["logins"]
    tokens = sum(row["count"] for row in figures["tokens"])
    return f"{users['value']:,}", _error(users), f"{logins['succeeded']:,}", f"{logins['failed']:,}", f"{tokens:,}"


def _show_regions(signed: Mapping[str, Any]) -> None:
    """The completeness, ledgers and positions of a report over regions."""
    if not signed["complete"]:
        echo("NOT COMPLETE: it was signed with --incomplete.")
    for region in signed["regions"]:
        notes = [
            region["state"],
            *([region["reason"]] if region["reason"] else []),
            *(["imported"] if region["imported"] else []),
        ]
        echo(f"Region {region['region']}: ledger {region['ledger'] or 'unknown'}, {', '.join(notes)}.")
    if apart := [region["region"] for region in signed["regions"] if not region["united"]]:
        echo(f"Users of several regions may count twice: {', '.join(apart)} exports some users as a number only.")
    show_table(
        ("region", "topic", "partition", "covered up to", "lost"),
        (
            (region["region"], row["topic"], row["partition"], row["offset"], row["lost"])
            for region in signed["regions"]
            for row in region["positions"]
        ),
    )


def _error(users: Mapping[str, Any]) -> str:
    if users["exact"]:
        return "exact"
    return "unknown" if users["standard_error"] is None else f"±{users['standard_error']}"


def _users(active: ActiveUsers) -> dict[str, Any]:
    # A string, because JSON writers print fractions in different ways, and a signature needs identical bytes.
    error = None if math.isnan(active.standard_error) else f"{active.standard_error:.6f}"
    return {"value": active.count, "exact": active.exact, "standard_error": error}
