"""Signs and verifies the report of a month: its figures, the settings they were counted with, the log positions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import orjson

from api.ledger.client import UNREACHABLE, open_ledger
from api.ledger.imported import Imported
from api.ledger.statistics import Counts, Statistics
from api.ledger.status import PipelineStatus
from api.ledger.users import ActiveUsers
from deploy.cli.operations import show_table
from deploy.cli.report.signing import SignatureError, private_key, public_key, read_file, signed_with, verified
from deploy.cli.terminal import echo, printable_json
from schemas.ledger import fields
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from schemas.settings import PREFIX, CommonSettings

NOT_REPORTED: Final = frozenset({"topic_id", "user_hash_key"})
"""Fields of meta that `settings` lacks: the first is reported beside it, the second is useless without the key."""


def sign(settings: CommonSettings, key_file: Path, text: str | None, output: Path | None) -> None:
    """Write the signed report of a month; by default the last complete one. Raises click.ClickException."""
    key = private_key(key_file)
    today = Month.of(datetime.now(settings.zone).date())
    try:
        month = Month.of_key(text) if text else today.plus(-1)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from error
    try:
        result = asyncio.run(_month(settings, month))
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
    users, logins = signed["active_users"], signed["logins"]
    show_table(
        ("month", "active users", "error", "logins", "failed logins", "tokens"),
        [
            (
                signed["month"] + (" (to date)" if signed["to_date"] else ""),
                f"{users['value']:,}",
                _error(users),
                f"{logins['succeeded']:,}",
                f"{logins['failed']:,}",
                f"{sum(row['count'] for row in signed['tokens']):,}",
            )
        ],
    )
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
            result = await _counted(statistics, settings, month.key)
        after = await statistics.pipeline_status()
    finally:
        await client.close()
    return {
        "month": month.key,
        "timezone": settings.timezone,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "authtally": version("authtally"),
        "key_prefix": settings.key_prefix,
        "positions": _positions(before, after),
        **result,
    }


def _positions(before: PipelineStatus, after: PipelineStatus) -> list[dict[str, Any]]:
    """The positions that the figures cover: everything below `offset`, and nothing from `offset_after` on."""
    later = {shard.keys.shard: shard.position for shard in after.shards}
    return [
        {
            "topic": shard.keys.shard.topic,
            "partition": shard.keys.shard.partition,
            "topic_id": shard.meta.get("topic_id", ""),
            "offset": shard.position,
            "offset_after": later.get(shard.keys.shard),
            "lost": shard.progress.get(fields.LOST, 0),
            "settings": dict(sorted((name, value) for name, value in shard.meta.items() if name not in NOT_REPORTED)),
        }
        for shard in before.shards
    ]


async def _counted(statistics: Statistics, settings: CommonSettings, month: str) -> dict[str, Any]:
    held = await statistics.find_periods([month])
    if month not in held.shards:
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
        "active_clients": _users(await statistics.active_clients(month)),
        "realms": [
            {"realm": scope.names[0], **result[scope]} for scope in realms if result[scope] != _figures(_NO_USERS, {})
        ],
        "imported_from": None,
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


def _error(users: Mapping[str, Any]) -> str:
    if users["exact"]:
        return "exact"
    return "unknown" if users["standard_error"] is None else f"±{users['standard_error']}"


def _users(active: ActiveUsers) -> dict[str, Any]:
    # A string, because JSON writers print fractions in different ways, and a signature needs identical bytes.
    return {"value": active.count, "exact": active.exact, "standard_error": f"{active.standard_error:.6f}"}
