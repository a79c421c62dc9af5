"""`authtally` publish, import-stat, snapshot, recount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from deploy.cli.commands.help import SuggestingGroup
from deploy.cli.commands.options import (
    Choice,
    json_option,
    operator_settings,
    settings_errors_as_usage,
    worker_settings,
    yes_option,
)

FORMATS = (
    "native",
    "login",
    "token",
    "account",
    "otp",
    "otp-count",
    "keycloak",
    "auth0-logs",
    "janssen-audit",
    "janssen-audit-sessions",
    "fusionauth",
    "linotp-report",
    "cloudevents",
)
"""The names of the adapters, as in AUTHTALLY_TOPICS; repeated here because help and completion import no adapter."""


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--format", "form", type=Choice(FORMATS), default="native", show_default=True, help="The format of FILE.")
@click.option("--dry-run", is_flag=True, help="Publish nothing; print the rejected elements and the figures per month.")
@click.option("--rejects", metavar="FILE", help="Write rejected elements here: line, index, reason, detail, value.")
@click.option("--state", metavar="FILE", help="File that stores progress.  [default: FILE.published; none for -]")
@click.option("--restart", is_flag=True, help="Ignore the stored progress and start at the beginning.")
@click.option("--source", default="", metavar="NAME", help="Name of the input, part of generated event ids: see above.")
@click.option("--no-ids", is_flag=True, help="Generate no event ids; events that a resumed run repeats count twice.")
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
    """Publish events from a file or standard input (-) to Kafka, into the topics of AUTHTALLY_TOPICS.

    Use it to load an export of another product, or events of the time before the live connection. FILE contains JSON
    Lines, JSON arrays of any size or multi-line JSON objects, in UTF-8, gzipped or not. --format names the product that
    wrote it; "login", "token" and "account" are native events without the field "type". "janssen-audit" also reads the
    server's audit file as it is.

    \b
      authtally publish --format keycloak --dry-run events.json.gz
      authtally publish --format keycloak --rejects bad.jsonl events.json.gz
      zcat old/*.gz | authtally publish --format auth0-logs --state old.state -

    All in-sync replicas acknowledge every event. After an interruption, repeat the same command: it skips the
    acknowledged events and sends at most the last second again. Repeated events count once, because an event without
    an id gets one, computed from --source and the input up to that event; the same input gives the same ids. The worker
    recognises an id for AUTHTALLY_DEDUPE_WINDOW_S seconds and needs memory for it that long. Two different inputs that
    begin with identical elements need a different --source each.

    Kafka records carry the time of sending, because retention uses it. Day and month follow each event's own time.

    Exit status: 0 all published, 1 an element was rejected or failed, 2 wrong settings or options, 130 stopped.
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
@click.option("--source", metavar="TEXT", help="Origin of the figures, shown with them.  [default: the file's name]")
@click.option("--replace", is_flag=True, help="Also import months that are already imported.")
@click.option("--instead", is_flag=True, help="Also import months of which events were counted; answers hide those.")
@click.option("--remove", multiple=True, metavar="MONTH", help="Remove an imported month; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print the months that would be imported or removed.")
@json_option
def import_stat(
    file: str | None,
    source: str | None,
    replace: bool,
    instead: bool,
    remove: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import monthly figures of another system, so that answers cover the time before. Without FILE, list them.

    FILE is a JSON answer of the statistics of Janssen or Gluu, in any of their shapes, or a CSV. A CSV has the month
    (2025-03 or 202503), its active users, then in any order logins and tokens by grant and token type. An empty cell
    means that the figure is not known.

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

    Either all months are written, in one step, or none. A month must be over. An imported month stands until --remove:
    answers about the whole deployment use its figures, whatever is counted of it. Imported months are numbers without
    the users behind them: they add nothing to a range of several months, to a realm or to a client.

    Exit status: 0 done, 1 a fault was found and nothing was changed, 2 wrong settings or options.
    """
    from deploy.cli import import_stat

    if file is not None and remove:
        raise click.UsageError("either FILE or --remove")
    values = operator_settings()
    if file is not None:
        import_stat.import_months(
            values, file, source, replace=replace, instead=instead, dry_run=dry_run, as_json=as_json
        )
    elif remove:
        import_stat.remove(values, remove, dry_run=dry_run, as_json=as_json)
    else:
        import_stat.show(values, as_json=as_json)


@click.command()
@click.argument("month", metavar="YYYY-MM")
@json_option
def recount(month: str, as_json: bool) -> None:
    """Count a month again from Kafka by independent code, and compare the result with the ledger.

    Use it to audit figures. Logins, tokens and account events are plain sums and must agree exactly. Users are kept one
    by one up to 100,000, then in the HyperLogLog of another library. The command reads all records of the month that
    Kafka still has, in one process.

    \b
      authtally recount 2026-10

    Exit status: 0 all agree, 1 a figure differs or Kafka lacks records of the month, 2 wrong settings or options.
    """
    from deploy.cli.verify.recount import recount as run

    if not run(operator_settings(), month, as_json=as_json):
        raise SystemExit(1)


@click.group(cls=SuggestingGroup)
def snapshot() -> None:
    """Save, check, restore and verify the ledger as a file. Kafka alone restores only events that it still has."""


file_argument: Callable[[Any], Any] = click.argument("file", type=click.Path(path_type=Path))


@snapshot.command("save")
@file_argument
@click.option(
    "--keep",
    type=click.IntRange(1),
    metavar="N",
    help="FILE is a folder: keep its N newest snapshots, delete older ones.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@json_option
def snapshot_save(file: Path, keep: int | None, overwrite: bool, as_json: bool) -> None:
    """Write the whole ledger to FILE while workers run. If FILE is a folder, the file's name is the present time.

    \b
      authtally snapshot save ledger.snapshot
      authtally snapshot save --keep 30 /var/backups/authtally

    Each shard is saved as of one position. The file gets its name only after it is complete and on disk.

    Exit status: 0 saved, 1 not saved, 2 wrong settings or options.
    """
    from deploy.cli import snapshot

    snapshot.save(operator_settings(), file, keep, overwrite=overwrite, as_json=as_json)


@snapshot.command("show")
@file_argument
@json_option
def snapshot_show(file: Path, as_json: bool) -> None:
    """Check every byte of the snapshot FILE and print its contents. Connects to no server.

    \b
      authtally snapshot show ledger.snapshot

    Exit status: 0 complete and undamaged, 1 damaged or unreadable.
    """
    from deploy.cli import snapshot

    snapshot.show(file, as_json=as_json)


@snapshot.command("restore")
@file_argument
@click.option("--replace", is_flag=True, help="Overwrite shards and imported months that the store already has.")
@click.option("--without-kafka", is_flag=True, help="Skip the comparison with Kafka's topics; workers repeat it.")
@click.option("--dry-run", is_flag=True, help="Change nothing and do not ask; print what would be restored.")
@yes_option
@json_option
def snapshot_restore(file: Path, replace: bool, without_kafka: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Restore the snapshot FILE into an empty store. A dry run without --yes. Workers then count the later events.

    \b
      authtally snapshot restore ledger.snapshot
      authtally snapshot restore --yes ledger.snapshot

    The store may be another product or layout than the saved one: Redis or Valkey, one server, Sentinel or Cluster. The
    command first checks the whole file and compares it with the settings, with Kafka's topics and with the store; on
    any conflict it writes nothing. Each shard is restored completely or not at all, and no worker counts into it
    meanwhile. After an interruption, repeat the same command.

    Exit status: 0 restored, 1 not restored, 2 wrong settings or options.
    """
    from deploy.cli import snapshot

    if dry_run and yes:
        raise click.UsageError("either --dry-run or --yes")
    snapshot.restore(
        worker_settings(),
        file,
        replace=replace,
        ask_kafka=not without_kafka,
        yes=None if dry_run else yes,
        as_json=as_json,
    )


@snapshot.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--from-start", is_flag=True, help="Without FILE: replay Kafka's log from offset 0, which it must still have."
)
@click.option(
    "--scratch-url", metavar="URL", help="Redis to replay into.  [default: starts the one of authtally[demo]]"
)
@json_option
def snapshot_verify(file: Path | None, from_start: bool, scratch_url: str | None, as_json: bool) -> None:
    """Replay the events since the snapshot FILE by the worker's code, and compare every key with the live ledger.

    \b
      authtally snapshot verify last-week.snapshot
      authtally snapshot verify --from-start

    Use it to prove that the ledger contains exactly the counts of the log. Workers may run: each shard is compared at
    its own position. Imported months, deletes of inventory rows and observations are skipped, because they do not
    follow from the log. The scratch Redis needs memory for two copies of the largest shard.

    Records without a usable timestamp were judged by the clock of that time; keys that may differ for this reason only
    are listed separately. After an upgrade of the ledger's format, FILE must have been saved since the upgrade.

    Exit status: 0 all agree, 1 a key differs or a shard cannot be verified, 2 wrong settings or options, 3 all agree
    except keys that depend on the clock.
    """
    if (file is None) != from_start:
        raise click.UsageError("either FILE or --from-start")
    if scratch_url is not None and urlsplit(scratch_url).scheme not in ("redis", "rediss", "unix"):
        message = f"{scratch_url.partition(':')[0]!r} must be a redis://, rediss:// or unix:// URL"
        raise click.BadParameter(message, param_hint="--scratch-url")
    from deploy.cli.verify import verify

    if status := verify(worker_settings(), file, scratch_url, as_json=as_json):
        raise SystemExit(status)
