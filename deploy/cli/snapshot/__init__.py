"""`authtally snapshot`: output and errors of the commands; the files beside this one do the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from aggregator.ledger.store import UNREACHABLE, Client, close, connect, describe_error
from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.json_output import print_json as print_json
from deploy.cli.operations import Log, confirmed, logs_of, show_table
from deploy.cli.snapshot.copying import NotWholeError
from deploy.cli.snapshot.file import Contents, SnapshotError, contents
from deploy.cli.snapshot.lease import InTheWayError
from deploy.cli.snapshot.planning import Plan, plan
from deploy.cli.snapshot.redis_connections import MovedAwayError
from deploy.cli.snapshot.restoring import restore as run_restore
from deploy.cli.snapshot.saving import Saved, place_of, thin_out
from deploy.cli.snapshot.saving import save as run_save
from deploy.cli.terminal import echo
from deploy.progress import progress
from schemas.ledger.keys import Shard
from schemas.telemetry import logs

COUNTED: Final = (
    ". Restore into an empty store (stop the workers before it is emptied, because they begin to count into it at "
    "once) or under another KEY_PREFIX, or replace what is counted with --replace."
)
STARTED: Final = "%Y-%m-%d %H:%M:%S UTC"

T = TypeVar("T")


def save(settings: WorkerSettings, file: Path, keep: int | None, *, overwrite: bool, as_json: bool) -> None:
    """Write a snapshot. Raises click.ClickException."""
    if keep is not None and not file.is_dir():
        found = "is no folder" if file.exists() else "does not exist: create it first"
        raise click.UsageError(f"--keep needs a folder instead of a file name, and {file} {found}")
    path = place_of(file, datetime.now(UTC))
    if path.exists() and not overwrite:
        raise click.ClickException(f"{path}: exists; --overwrite replaces it")
    with progress("saving", "shards") as job:

        def on_progress(tag: str, done: int, total: int) -> None:
            job.of(f"saving {tag}", done, total)

        saved: Saved = with_connection(settings, lambda client: run_save(client, settings, path, on_progress))
    if keep is not None:
        saved.removed = thin_out(file, keep)
    if as_json:
        print_json(
            {
                "file": str(saved.path),
                "id": saved.id,
                "bytes": saved.bytes,
                "seconds": round(saved.seconds, 3),
                "shards": saved.shards,
                "removed": [str(path) for path in saved.removed],
            }
        )
        return
    _table(saved.shards)
    echo(f"Saved {len(saved.shards)} shards to {saved.path}: {saved.bytes:,} bytes in {saved.seconds:.1f} s.")
    for old in saved.removed:
        echo(f"Removed {old}.")


def show(file: Path, *, as_json: bool) -> None:
    """Check a whole file and print its contents. Raises click.ClickException."""
    held = checked(file)
    if as_json:
        print_json({**held.header, "file": str(file), "bytes": held.size, "shards": held.shards, "whole": True})
        return
    _table(held.shards)
    echo(_heading(file, held))


def restore(
    settings: WorkerSettings,
    file: Path,
    *,
    replace: bool,
    ask_kafka: bool,
    yes: bool | None,
    as_json: bool,
) -> None:
    """Restore a snapshot after printing what it changes. `yes` None changes nothing and does not ask.

    Raises click.ClickException.
    """
    held = checked(file)
    in_kafka = kafka_of(settings, held) if ask_kafka else None
    planned = with_connection(settings, lambda client: plan(client, settings, file, held, in_kafka, replace=replace))
    report: dict[str, Any] = {
        "file": str(file),
        "id": held.header["id"],
        "refused": planned.refused,
        "restored": [],
        "already_restored": planned.done,
        "to_restore": planned.restore,
        "remarks": planned.remarks,
    }
    if not as_json:
        _print_plan(file, held, planned, dry_run=yes is None)
    if not planned.refused and yes is not None and confirmed(yes, "Restore them?", as_json=as_json):
        with progress("restoring", "bytes", held.unpacked) as job:

            def on_progress(section: str, more: int) -> None:
                job.add(more, f"restoring {section}")

            done = with_connection(
                settings, lambda client: run_restore(client, settings, file, held, planned, on_progress=on_progress)
            )
        report |= {
            "restored": done.shards,
            "keys": done.entries,
            "expired": done.expired,
            "seconds": round(done.seconds, 3),
        }
        named = {"file": file.name, "snapshot": held.header["id"], "replace": replace}
        audit.record(settings, "snapshot restore", named, len(done.shards))
    if as_json:
        print_json(report)
    else:
        _print_result(report)
    if planned.refused:
        for reason in planned.refused:
            echo(reason, err=True)
        raise click.ClickException(f"{file}: nothing was restored" + (COUNTED if planned.counted else ""))


def _print_plan(file: Path, held: Contents, planned: Plan, *, dry_run: bool) -> None:
    _table(held.shards, planned.remarks | dict.fromkeys(planned.done, "already restored"))
    echo(_heading(file, held))
    if not planned.refused:
        number = len(planned.restore)
        echo(f"Dry run: {number} shards would be restored." if dry_run else f"{number} shards to restore.")


def _print_result(report: dict[str, Any]) -> None:
    if "keys" in report:
        echo(
            f"Restored {len(report['restored'])} shards: {report['keys']:,} keys in {report['seconds']:.1f} s; "
            f"{report['expired']:,} had expired. Workers continue from these positions."
        )


def kafka_of(settings: WorkerSettings, held: Contents) -> dict[Shard, Log]:
    """The partitions in Kafka of a snapshot's topics. Raises click.ClickException."""
    return logs_of(settings, {held_shard["topic"] for held_shard in held.shards})


def checked(file: Path) -> Contents:
    """The contents of a file, after a check of every byte. Raises click.ClickException."""
    with progress("checking", "bytes") as job:
        try:
            return contents(file, job.add)
        except SnapshotError as error:
            raise click.ClickException(str(error)) from error


def with_connection(settings: WorkerSettings, ask: Callable[[Client], Awaitable[T]]) -> T:
    """Run `ask` with a connection to the store, without a time limit. Raises click.ClickException."""
    logs.configure("error", settings.log_format)

    async def conversation() -> T:
        client = connect(settings)
        try:
            return await ask(client)
        finally:
            await close(client)

    try:
        return asyncio.run(conversation())
    except (SnapshotError, InTheWayError, NotWholeError, MovedAwayError) as error:
        raise click.ClickException(str(error)) from error
    except UNREACHABLE as error:
        raise click.ClickException(describe_error(error)) from error


def _heading(file: Path, held: Contents) -> str:
    began = datetime.fromisoformat(held.header["began"]).strftime(STARTED)
    return (
        f"{file}: complete, {held.size:,} bytes, saved {began} by authtally {held.header['authtally']}, "
        f"key prefix {held.header['key_prefix']}"
    )


def _table(shards: list[dict[str, Any]], remarks: dict[str, str] | None = None) -> None:
    columns = ("topic", "partition", "position", "keys", "topic id")
    rows = [
        (
            held_shard["topic"],
            held_shard["partition"],
            held_shard["position"],
            f"{held_shard['entries']:,}",
            held_shard["meta"].get("topic_id", "-"),
        )
        for held_shard in shards
    ]
    if remarks is None:
        show_table(columns, rows)
    else:
        show_table(
            (*columns, ""),
            ((*row, remarks.get(held_shard["section"], "")) for row, held_shard in zip(rows, shards, strict=True)),
        )
