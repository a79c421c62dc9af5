"""`authtally` publish, import-stat, snapshot, recount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deploy.cli.commands.options import json_option, settings_errors_as_usage, worker_settings

FORMATS = (
    "native",
    "login",
    "token",
    "account",
    "otp",
    "otp-count",
    "keycloak",
    "auth0",
    "janssen-audit",
    "janssen-audit-sessions",
    "fusionauth",
    "linotp-report",
    "cloudevents",
)


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--format", "form", type=click.Choice(FORMATS), default="native", show_default=True, help="Whose events.")
@click.option(
    "--dry-run", is_flag=True, help="Publish nothing: tell what would be rejected, and what each month holds."
)
@click.option("--rejects", metavar="FILE", help="Write rejected elements here: line, index, reason, detail, value.")
@click.option("--state", metavar="FILE", help="Where progress is kept.  [default: FILE.published; none for -]")
@click.option("--restart", is_flag=True, help="Begin again, whatever the state says.")
@click.option("--source", default="", metavar="NAME", help="Part of the ids that are given: see above.")
@click.option("--no-ids", is_flag=True, help="Give no ids: what a cut-off run sends again counts twice.")
@json_option
def publish(
    file: str,
    form: str,
    dry_run: bool,
    rejects: str | None,
    state: str | None,
    restart: bool,
    source: str,
    no_ids: bool,
    as_json: bool,
) -> None:
    """Publish events from a file, or from standard input (-), to the topics of AUTHTALLY_TOPICS.

    FILE holds JSON Lines, arrays of any size, or objects printed over several lines, in UTF-8, gzipped or not. Each
    element becomes events of ours as --format says; "login", "token" and "account" are native events without a type.

    \b
      authtally publish --format keycloak --dry-run events.json.gz
      authtally publish --format keycloak --rejects bad.jsonl events.json.gz
      zcat old/*.gz | authtally publish --format auth0 --state old.state -

    Every event is acknowledged by all in-sync replicas. A run that is cut off goes on when the same command is given
    again: what was acknowledged is passed by, and at most its last second is sent once more. So that this counts once,
    an event without an id gets one from the content of the input up to it and from --source: the same input gives the
    same ids. They hold for AUTHTALLY_DEDUPE_WINDOW_S and cost the ledger memory that long. Inputs that begin with the
    very same elements and are not the same need another --source each.

    Records carry the time of sending, since Kafka's retention goes by it; day and month follow each event's own time.

    Exit status: 0 all published, 1 something was rejected or failed, 2 wrong settings or options, 130 stopped.
    """
    from deploy.cli import environment
    from deploy.cli.publish import publish as run
    from deploy.cli.publish.run import Options, PublishSettings

    with settings_errors_as_usage():
        values = environment.load(PublishSettings)
    options = Options(
        file=file,
        format=form,
        source=source,
        ids=not no_ids,
        state=Path(state) if state else None,
        rejects=Path(rejects) if rejects else None,
        restart=restart,
        dry_run=dry_run,
        as_json=as_json,
    )
    raise SystemExit(run(values, options))


@click.command("import-stat")
@click.argument("file", metavar="[FILE|-]", required=False)
@click.option("--source", metavar="TEXT", help="Where the figures are from.  [default: the file's name]")
@click.option("--replace", is_flag=True, help="Also months that are imported or counted already.")
@click.option("--remove", multiple=True, metavar="MONTH", help="Take an imported month out again; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Change nothing: tell what would be imported or removed.")
@json_option
def import_stat(
    file: str | None, source: str | None, replace: bool, remove: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Import past monthly figures of the whole deployment, so that history before a move shows. No file: list them.

    FILE is a JSON answer of Janssen's or Gluu's statistics, in any of their shapes, or a CSV: a month in the form
    2025-03 or 202503, its active users, then in any order logins and tokens by grant and token type. An empty cell is
    a figure that is not known.

    \b
      month,active_users,logins,authorization_code/access_token,client_credentials/access_token
      2025-03,1811,24310,30112,880
      2025-04,1904,,31200,

    \b
      curl -H "Authorization: Bearer $TOKEN" -o past.json \\
        'https://idp.example.org/jans-auth/restv1/internal/stat?start-month=202401&end-month=202512'
      authtally import-stat --dry-run past.json
      authtally import-stat past.json
      authtally import-stat --remove 2025-03

    All months are written in one step, or none. A month that the ledger counts itself is shown from there, imported or
    not. Imported months are figures, not sketches: they add to no union, no realm and no client.

    Exit status: 0 done, 1 something is wrong and nothing was changed, 2 wrong settings or options.
    """
    from deploy.cli import import_stat

    if file is not None and remove:
        raise click.UsageError("either FILE or --remove")
    values = worker_settings()
    if file is not None:
        import_stat.import_months(values, file, source, replace=replace, dry_run=dry_run, as_json=as_json)
    elif remove:
        import_stat.remove(values, remove, dry_run=dry_run, as_json=as_json)
    else:
        import_stat.show(values, as_json=as_json)


@click.command()
@click.argument("month", metavar="YYYY-MM")
@json_option
def recount(month: str, as_json: bool) -> None:
    """Count a month once more from Kafka, in another way, and compare with the ledger.

    Users by another library's HyperLogLog over their plain ids, or one by one up to 100,000; logins, tokens and account
    events by plain sums: exactly. Reads all records of the month that Kafka still has, in this one process.

    \b
      authtally recount 2026-10

    Exit status: 0 all agree, 1 something differs or Kafka no longer has it all, 2 wrong settings or options.
    """
    from deploy.cli.verify.recount import recount as run

    if not run(worker_settings(), month, as_json=as_json):
        raise SystemExit(1)


@click.group()
def snapshot() -> None:
    """The ledger as a file. Without one, figures live as long as the store, and come back only as far as Kafka goes."""


file_argument: Callable[[Any], Any] = click.argument("file", type=click.Path(path_type=Path))


@snapshot.command("save")
@file_argument
@click.option("--keep", type=click.IntRange(1), metavar="N", help="FILE is a folder: keep its newest N snapshots.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@json_option
def snapshot_save(file: Path, keep: int | None, overwrite: bool, as_json: bool) -> None:
    """Write the whole ledger to FILE while workers go on; in a folder, to a file named by the time.

    \b
      authtally snapshot save ledger.snapshot
      authtally snapshot save --keep 30 /var/backups/authtally

    Each shard is as of one position. The file gets its name when it is whole and on disk.

    Exit status: 0 saved, 1 not, 2 wrong settings or options.
    """
    from deploy.cli import snapshot

    snapshot.save(worker_settings(), file, keep, overwrite=overwrite, as_json=as_json)


@snapshot.command("show")
@file_argument
@json_option
def snapshot_show(file: Path, as_json: bool) -> None:
    """Check every byte of FILE, and tell what is in it. Asks no server.

    \b
      authtally snapshot show ledger.snapshot

    Exit status: 0 whole, 1 damaged or unreadable.
    """
    from deploy.cli import snapshot

    snapshot.show(file, as_json=as_json)


@snapshot.command("restore")
@file_argument
@click.option("--replace", is_flag=True, help="Also shards that the store counts already, and imported months.")
@click.option("--without-kafka", is_flag=True, help="Do not compare with Kafka's topics; workers do so anyway.")
@click.option("--dry-run", is_flag=True, help="Change nothing: tell what would be restored.")
@json_option
def snapshot_restore(file: Path, replace: bool, without_kafka: bool, dry_run: bool, as_json: bool) -> None:
    """Restore FILE into an empty store, of any kind and layout; workers then count what came since.

    \b
      authtally snapshot restore --dry-run ledger.snapshot
      authtally snapshot restore ledger.snapshot

    The whole file is checked first, and compared with the settings, with Kafka's topics and with what the store holds:
    nothing is written if anything speaks against it. Each shard is restored as a whole or not at all, and no worker
    counts into it meanwhile. A run that was cut off is finished by the same command.

    Exit status: 0 restored, 1 not, 2 wrong settings or options.
    """
    from deploy.cli import snapshot

    snapshot.restore(
        worker_settings(), file, replace=replace, ask_kafka=not without_kafka, dry_run=dry_run, as_json=as_json
    )


@snapshot.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--from-start", is_flag=True, help="No FILE: count all of Kafka's log, which must begin at offset 0.")
@click.option("--scratch-url", metavar="URL", help="A store to count in.  [default: one of our own, authtally[demo]]")
@json_option
def snapshot_verify(file: Path | None, from_start: bool, scratch_url: str | None, as_json: bool) -> None:
    """Count again what came since FILE, by the worker's own code, and compare every key with the live ledger.

    \b
      authtally snapshot verify last-week.snapshot
      authtally snapshot verify --from-start

    The ledger goes on meanwhile: each shard is compared at a position of its own. Imported months, deletes of inventory
    rows and observations do not follow from the log and are left out. Takes room for two copies of the largest shard.

    Records without a usable timestamp were judged by the clock at that time: what may differ for that alone is listed
    apart. A ledger of an older version is verified from its upgrade on: FILE must have been saved since then.

    Exit status: 0 all agree, 1 something differs or cannot be verified, 2 wrong settings or options, 3 all agree but
    for what depends on the clock.
    """
    if (file is None) != from_start:
        raise click.UsageError("either FILE or --from-start")
    from deploy.cli.verify import verify

    if status := verify(worker_settings(), file, scratch_url, as_json=as_json):
        raise SystemExit(status)
