"""`authtally import-stat`: import monthly figures of another system, so that answers cover the time before the move."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import click

from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.json_output import print_json
from deploy.cli.operations import shards_held, show_table, with_ledger
from deploy.cli.past_months import LOGINS, MAX_BYTES, PastError, PastMonth, month_of, read
from deploy.cli.terminal import echo
from schemas.ledger import fields, keys
from schemas.ledger.keys import ShardKeys
from schemas.ledger.periods import Month

STDIN: Final = "-"
MAX_SOURCE: Final = 256

REPLACE: Final = """
local wanted, stale, there = {}, {}, {}
for i = 3, 2 + tonumber(ARGV[2]) do wanted[ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local month = string.match(field, '^[^/]*')
  if wanted[month] then
    stale[#stale + 1] = field
    if wanted[month] ~= 'seen' then wanted[month] = 'seen'; there[#there + 1] = month end
  end
end
if ARGV[1] == '0' and #there > 0 then return there end
for i = 1, #stale, 1000 do redis.call('HDEL', KEYS[1], unpack(stale, i, math.min(i + 999, #stale))) end
for i = 3 + tonumber(ARGV[2]), #ARGV, 1000 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return there
"""
"""Replaces months in one step. Without permission to replace, an existing month keeps everything unchanged.

ARGV: `1` to replace or `0`; number of months; the months; fields and values. Returns the months that existed.
"""


class Held(NamedTuple):
    """The months in the ledger: imported ones with their fields, and counted ones."""

    imported: dict[Month, dict[tuple[str, ...], str]]
    counted: frozenset[Month]


def import_months(
    settings: WorkerSettings,
    file: str,
    source: str | None,
    *,
    replace: bool,
    instead: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the months of `file`, all of them or none. Raises click.ClickException.

    `replace` permits months that are imported already, `instead` months of which events were counted.
    """
    source = source or ("standard input" if file == STDIN else Path(file).name)
    if len(source) > MAX_SOURCE or not source.isprintable():
        message = f"must have at most {MAX_SOURCE} characters, all printable"
        raise click.BadParameter(message, param_hint="--source")
    try:
        months = read(_text_of(file), Month.of(datetime.now(settings.zone)))
    except PastError as error:
        faults = [f"{file}: {fault}" for fault in error.faults]
        if as_json:
            print_json({"months": [], "refused": [], "faults": faults, "written": False})
        for fault in faults:
            echo(fault, err=True)
        raise click.ClickException(f"{file}: nothing was imported") from error
    held = _held(settings, [row.month for row in months])
    remarks = {row.month: _remark(row.month, held) for row in months}
    refusals = [] if replace else [(row.month.key, "--replace") for row in months if row.month in held.imported]
    refusals += [] if instead else [(row.month.key, "--instead") for row in months if row.month in held.counted]
    clash = sorted({month for month, _ in refusals})
    refused = bool(clash)
    if not refused and not dry_run:
        there = _replace(settings, months, source, replace=replace)
        if there and not replace:
            message = f"{', '.join(sorted(there))}: another run imported it meanwhile; nothing was changed"
            raise click.ClickException(message)
        named = {"months": [month.key for month in remarks], "source": source, "replace": replace}
        audit.record(settings, "import-stat", named, len(months))
    if as_json:
        result = [_as_document(row, source) | {"held": remarks[row.month] or None} for row in months]
        print_json({"months": result, "refused": clash, "written": not refused and not dry_run})
    else:
        show_table(
            ("month", "active users", "logins", "tokens", ""),
            ((*_figures(row), remarks[row.month]) for row in months),
        )
    if refused:
        raise click.ClickException(f"{_needed(refusals)}. Nothing was changed")
    if not as_json:
        echo("Dry run: nothing was changed." if dry_run else f"Imported {len(months)} months from {source}.")


def remove(settings: WorkerSettings, texts: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Remove imported months. Raises click.ClickException."""
    months = []
    for text in texts:
        try:
            months.append(month_of(text))
        except ValueError as error:
            raise click.BadParameter(
                f"{text!r} is not a month; allowed: YYYY-MM or YYYYMM; example: 2025-03", param_hint="--remove"
            ) from error
    there = _held(settings, ()).imported
    gone = sorted({month.key for month in months if month in there})
    if not dry_run and gone:
        gone = sorted(_replace(settings, (), "", replace=True, remove=months))
        audit.record(settings, "import-stat --remove", {"months": gone}, len(gone))
    missing = sorted({month.key for month in months} - set(gone))
    if as_json:
        print_json({"removed": gone, "not_imported": missing, "written": bool(gone) and not dry_run})
        return
    for month in missing:
        echo(f"{month} was not imported.")
    if gone:
        result = f"{', '.join(gone)}"
        echo(f"Dry run: {result} would be removed." if dry_run else f"Removed {result}.")


def show(settings: WorkerSettings, *, as_json: bool) -> None:
    """Print the imported months. Raises click.ClickException."""
    held = _held(settings, None)
    rows = [(row_of(month, held.imported[month]), held.imported[month]) for month in sorted(held.imported)]
    if as_json:
        print_json(
            {
                "months": [
                    _as_document(row, parts.get((fields.SOURCE,), "")) | {"counted_here": row.month in held.counted}
                    for row, parts in rows
                ]
            }
        )
    elif not rows:
        echo("Nothing is imported.")
    else:
        show_table(
            ("month", "active users", "logins", "tokens", "source", ""),
            (
                (
                    *_figures(row),
                    parts.get((fields.SOURCE,), ""),
                    "answers use the imported figures; events were counted too" if row.month in held.counted else "",
                )
                for row, parts in rows
            ),
        )


def row_of(month: Month, parts: dict[tuple[str, ...], str]) -> PastMonth:
    """An imported month, from its fields."""
    counts = {names: int(value) for names, value in parts.items() if names not in ((fields.ACTIVE,), (fields.SOURCE,))}
    return PastMonth(month, int(parts.get((fields.ACTIVE,), 0)), counts)


def _text_of(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error


def _held(settings: WorkerSettings, counted: Iterable[Month] | None) -> Held:
    """All imported months, and the months of `counted` (None: of the imported ones) that the ledger counted itself."""

    async def ask(_ledger: Ledger, client: Client) -> Held:
        imported: dict[Month, dict[tuple[str, ...], str]] = {}
        found = await cast(Any, client.hgetall(keys.imported(settings.key_prefix)))
        for field, value in found.items():
            month, *names = fields.split(field)
            imported.setdefault(month_of(month), {})[tuple(names)] = value
        asked = sorted(set(imported if counted is None else counted))
        own: set[Month] = set()
        for shard in await shards_held(client, settings) if asked else ():
            index = ShardKeys(settings.key_prefix, shard).index
            scores = await client.zmscore(index, [month.key for month in asked])
            # The score is the period's expiry. After it the keys are gone, though the index may still name the period.
            own |= {month for month, at in zip(asked, scores, strict=True) if at is not None and at > time.time()}
        return Held(imported, frozenset(own))

    return with_ledger(settings, ask)


def _replace(
    settings: WorkerSettings, months: Sequence[PastMonth], source: str, *, replace: bool, remove: Sequence[Month] = ()
) -> list[str]:
    named = [*(row.month.key for row in months), *(month.key for month in remove)]
    written: list[str] = []
    for row in months:
        month = row.month.key
        written += [fields.imported(month, fields.ACTIVE), str(row.active)]
        written += [fields.imported(month, fields.SOURCE), source]
        for names, count in row.counts.items():
            written += [fields.imported(month, *names), str(count)]

    async def write(_ledger: Ledger, client: Client) -> list[str]:
        arguments = ["1" if replace else "0", str(len(named)), *named, *written]
        return list(await cast(Any, client.eval(REPLACE, 1, keys.imported(settings.key_prefix), *arguments)))

    return with_ledger(settings, write)


def _needed(refusals: Sequence[tuple[str, str]]) -> str:
    """Each option that is missing, with its months."""
    reasons = {"--replace": "already imported", "--instead": "the ledger has counted events of it"}
    parts = []
    for option, reason in reasons.items():
        months = sorted({month for month, needed in refusals if needed == option})
        if months:
            parts.append(f"{', '.join(months)}: {reason}; use {option} to import anyway")
    return "; ".join(parts)


def _remark(month: Month, held: Held) -> str:
    remarks = []
    if month in held.counted:
        remarks.append("events of it were counted")
    if month in held.imported:
        remarks.append(f"imported from {held.imported[month].get((fields.SOURCE,), 'another system')}")
    return "; ".join(remarks)


def _tokens(row: PastMonth) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for names, count in row.counts.items():
        if len(names) == 3:
            found.setdefault(names[1], {})[names[2]] = count
    return found


def _figures(row: PastMonth) -> tuple[object, ...]:
    tokens = [sum(of_grant.values()) for of_grant in _tokens(row).values()]
    logins = row.counts.get(fields.split(fields.LOGIN))
    return row.month.key, row.active, "-" if logins is None else logins, sum(tokens) if tokens else "-"


def _as_document(row: PastMonth, source: str) -> dict[str, Any]:
    return {
        "month": row.month.key,
        "active_users": row.active,
        LOGINS: row.counts.get(fields.split(fields.LOGIN)),
        "tokens": _tokens(row),
        "source": source,
    }
