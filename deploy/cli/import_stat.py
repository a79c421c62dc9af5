"""`authtally import-stat`: import monthly figures of another system, so that answers cover the time before the move."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.imported_months import Held, Outcome, parts_of, read_held, replace_months
from deploy.cli.json_output import print_json
from deploy.cli.operations import show_table, with_ledger
from deploy.cli.past_months import LOGINS, MAX_BYTES, PastError, PastMonth, month_of, read
from deploy.cli.terminal import echo
from schemas.ledger import fields
from schemas.ledger.periods import Month

STDIN: Final = "-"
MAX_SOURCE: Final = 256


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
        _check_outcome(_write(settings, months, source, replace=replace, instead=instead), replace=replace)
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
        gone = sorted(_remove(settings, months).imported)
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
    return with_ledger(settings, lambda _ledger, client: read_held(client, settings, counted))


def _write(
    settings: WorkerSettings, months: Sequence[PastMonth], source: str, *, replace: bool, instead: bool
) -> Outcome:
    figures = {row.month: parts_of(row, source) for row in months}
    return with_ledger(
        settings,
        lambda _ledger, client: replace_months(client, settings, figures, replace=replace, instead=instead),
    )


def _remove(settings: WorkerSettings, months: Sequence[Month]) -> Outcome:
    return with_ledger(
        settings,
        lambda _ledger, client: replace_months(client, settings, {}, remove=months, replace=True, instead=True),
    )


def _check_outcome(outcome: Outcome, *, replace: bool) -> None:
    """Raises click.ClickException if the ledger changed since it was read, so that nothing was written."""
    if outcome.counted:
        raise click.ClickException(
            f"{', '.join(outcome.counted)}: a worker counted events of it meanwhile; nothing was changed. "
            "Use --instead to import anyway"
        )
    if outcome.imported and not replace:
        raise click.ClickException(
            f"{', '.join(sorted(outcome.imported))}: another run imported it meanwhile; nothing was changed"
        )


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
