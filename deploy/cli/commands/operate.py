"""`authtally` doctor, positions, dead-letters, settings, topics."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.commands import help as manual
from deploy.cli.commands.help import SuggestingGroup
from deploy.cli.commands.options import (
    Choice,
    json_option,
    operator_settings,
    settings_errors_as_usage,
    worker_settings,
    yes_option,
)


@click.command()
@click.option(
    "--service",
    "services",
    type=Choice(("worker", "api")),
    multiple=True,
    help="Check only the needs of this service; may be repeated.  [default: both]",
)
@click.option("--backup-age", metavar="AGE", help="Age of the oldest backup of Redis: 36h, 7d.")
@click.option(
    "--backups",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of backups or snapshots; the oldest file gives the age.",
)
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1, 120),
    help="Longest wait for each server.",
)
@json_option
def doctor(
    services: tuple[str, ...], backup_age: str | None, backups: Path | None, timeout: float, as_json: bool
) -> None:
    """Check settings, Kafka, Redis, ledger and access, and advise on each finding. Changes nothing.

    \b
      authtally doctor
      authtally doctor --service worker --backups /var/backups/redis
      authtally doctor --backup-age 7d --json | jq '.findings[] | select(.verdict == "problem")'

    Run it before the first start, after changes and when figures stop. A finding is ok, a warning (nothing is blocked
    today), a problem, or unknown (a right to check it is missing; the finding names it). Kafka must keep events for
    longer than the age of the oldest backup of Redis: restoring that backup loses the events that Kafka no longer has.

    Exit status: 0 no problem, 1 problems, 2 wrong settings or options.
    """
    import time

    from deploy.cli.doctor import Options, age_of, oldest_in
    from deploy.cli.doctor import doctor as run
    from deploy.cli.doctor.retention import Backup

    if backup_age and backups:
        raise click.UsageError("either --backup-age or --backups")
    oldest = None
    try:
        if backup_age:
            oldest = Backup(age_of(backup_age), "the oldest backup", certain=True)
        elif backups:
            oldest = oldest_in(backups, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--backup-age" if backup_age else "--backups") from error
    raise SystemExit(run(Options(services or ("worker", "api"), timeout, oldest, as_json)))


@click.group(cls=SuggestingGroup)
def positions() -> None:
    """Show, move or repair shards: their positions, limits and indexes. A shard is one partition and its counts."""


@positions.command("show")
@json_option
def positions_show(as_json: bool) -> None:
    """Print position, log start, log end and lag of every shard, and whether its topic is still the same.

    \b
      authtally positions show
      authtally positions show --json | jq '[.shards[].lag] | add'

    The position is the next offset to count. untimed: records without a usable timestamp. unexpected: records that were
    not counted because of a defect, and the number at which the partition stops.
    """
    from deploy.cli import positions

    positions.show(operator_settings(), as_json=as_json)


@positions.command("reset")
@click.argument("topic", shell_complete=manual.topics)
@click.argument("partition", type=click.IntRange(0))
@click.option(
    "--to",
    required=True,
    metavar="earliest|latest|OFFSET",
    help="The offset to continue from.",
    shell_complete=manual.words("earliest", "latest"),
)
@yes_option
@json_option
def positions_reset(topic: str, partition: int, to: str, yes: bool, as_json: bool) -> None:
    """Move the position of one shard, after printing which offsets count twice or never. A dry run without --yes.

    Use it when doctor or a stopped partition asks for it, such as after a topic was created again. Events that count
    twice double logins, tokens and account events; active users stay right.

    \b
      authtally positions reset auth.logins 3 --to earliest
      authtally positions reset auth.logins 3 --to 120000 --yes
    """
    from deploy.cli import positions
    from schemas.ledger.keys import Shard

    positions.reset(worker_settings(), Shard(topic, partition), to, yes, as_json=as_json)


@positions.command("allow-unexpected")
@click.argument("topic", shell_complete=manual.topics)
@click.argument("partition", type=click.IntRange(0))
@click.argument("number", metavar="N", type=click.IntRange(0))
@json_option
def positions_allow_unexpected(topic: str, partition: int, number: int, as_json: bool) -> None:
    """Allow N unexpected records in a partition, so that a partition that stopped because of them continues.

    \b
      authtally positions allow-unexpected auth.logins 3 200

    An unexpected record is one that a defect of this program kept from being counted; it becomes a dead letter. Their
    number is limited, because a defect that affects every record would turn the whole topic into dead letters. Report
    the defect first; the log line `unexpected record` names the offset.
    """
    from deploy.cli import positions
    from schemas.ledger.keys import Shard

    positions.allow_unexpected(operator_settings(), Shard(topic, partition), number, as_json=as_json)


@positions.command("rebuild-index")
@click.argument("topic", required=False, shell_complete=manual.topics)
@click.argument("partition", required=False, type=click.IntRange(0))
@click.option("--all", "every", is_flag=True, help="All shards of the ledger.")
@yes_option
@json_option
def positions_rebuild_index(topic: str | None, partition: int | None, every: bool, yes: bool, as_json: bool) -> None:
    """Add days and months that have counts but are missing from a shard's index. A dry run without --yes.

    \b
      authtally positions rebuild-index --all
      authtally positions rebuild-index auth.logins 3 --yes

    Answers leave out periods that are not in the index. Versions with ledger format 1 removed them from it when one
    record had a timestamp far in the future. The command also removes such timestamps from the ledger. It is safe while
    workers run, and safe to repeat.
    """
    from deploy.cli import index_repair
    from schemas.ledger.keys import Shard

    if every == (topic is not None) or (topic is None) != (partition is None):
        raise click.UsageError("either TOPIC PARTITION or --all")
    shard = None if topic is None or partition is None else Shard(topic, partition)
    index_repair.rebuild_index(operator_settings(), shard, yes, as_json=as_json)


@click.command()
@click.option(
    "--last",
    "most",
    default=50,
    show_default=True,
    metavar="N",
    type=click.IntRange(1),
    help="Print the newest N entries.",
)
@json_option
def audit(most: int, as_json: bool) -> None:
    """Print the changes that people ordered: when, who, which, with what parameters, and how many.

    \b
      authtally audit
      authtally audit --last 1000 --json | jq '.entries[] | select(.action | startswith("reporting"))'

    Recorded are deletes of inventory rows, moves of positions, imports, adopted settings, allowed unexpected records,
    repaired indexes, restores, resent dead letters and removed realms. The time is the store's. The ledger keeps about
    the newest 1,000 entries; the api also logs its own by the logger `audit`.
    """
    from deploy.cli import audit

    audit.show(operator_settings(), most, as_json=as_json)


@click.group(cls=SuggestingGroup)
def realm() -> None:
    """Remove the figures of a realm."""


@realm.command("remove")
@click.argument("name", metavar="REALM")
@yes_option
@json_option
def realm_remove(name: str, yes: bool, as_json: bool) -> None:
    """Remove a realm's figures, labels and OTP inventory from the ledger. A dry run without --yes.

    \b
      authtally realm remove acme
      authtally realm remove acme --yes

    Stop the realm's events first, else its figures begin again. Workers may run. The output lists what remains: the
    realm's part of the figures of everything and of nodes, digests of event ids for a while, and the records in Kafka.
    Save a snapshot afterwards: older ones contain the realm, and the ledger cannot be verified from them any more.
    """
    from deploy.cli.realm_removal import remove

    remove(operator_settings(), name, yes, as_json=as_json)


@click.group("dead-letters", cls=SuggestingGroup)
def dead_letters() -> None:
    """List and resend dead letters: records that could not be counted."""


@dead_letters.command("list")
@json_option
def dead_letters_list(as_json: bool) -> None:
    """Print the number of dead letters by reason and topic, and a few samples without their values.

    \b
      authtally dead-letters list
      authtally dead-letters list --json | jq '.letters[] | select(.resent < .records)'
    """
    from deploy.cli import dead_letters

    dead_letters.show(operator_settings(), as_json=as_json)


def _known_reason(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Raises click.BadParameter for a reason that no dead letter can have."""
    from schemas.events import REASONS
    from schemas.suggestions import did_you_mean

    if value is not None and value not in REASONS:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(REASONS)}{did_you_mean(value, REASONS)}")
    return value


@dead_letters.command("resend")
@click.option(
    "--reason",
    metavar="REASON",
    callback=_known_reason,
    help="Only dead letters with this reason.",
    shell_complete=manual.reasons,
)
@yes_option
@json_option
def dead_letters_resend(reason: str | None, yes: bool, as_json: bool) -> None:
    """Send dead letters to their original topics again, each once, after the cause is fixed. A dry run without --yes.

    \b
      authtally dead-letters resend
      authtally dead-letters resend --reason impossible_time --yes

    The ledger stores which ones were resent, so a second run sends nothing. A run after one that was killed sends at
    most the last batch again.
    """
    from deploy.cli import dead_letters

    dead_letters.resend(operator_settings(), reason, yes, as_json=as_json)


@click.group(cls=SuggestingGroup)
def settings() -> None:
    """Change settings that the ledger records, such as MAX_LABELS."""


@settings.command("adopt")
@yes_option
@json_option
def settings_adopt(yes: bool, as_json: bool) -> None:
    """Record changed settings in the ledger, with the position from which they apply. A dry run without --yes.

    \b
      authtally settings adopt
      authtally settings adopt --yes

    A worker refuses to count with settings that differ from those in the ledger, because figures of both would mix.
    This command accepts the change: counts made so far stay as they are. Stop the workers first. Some settings, such as
    the time zone and the hash key, can never change.
    """
    from deploy.cli import settings_adopt

    settings_adopt.adopt(worker_settings(), yes, as_json=as_json)


@click.group(cls=SuggestingGroup)
def topics() -> None:
    """Create the topics that the worker reads, and the dead-letter topic."""


@topics.command("create")
@click.option(
    "--partitions", default=6, show_default=True, type=click.IntRange(1, 100_000), help="Partitions per topic."
)
@click.option(
    "--replicas",
    default=-1,
    type=click.IntRange(-1, 127),
    help="Replicas of each partition.  [default: the brokers' default]",
)
@click.option("--keep-days", default=7, show_default=True, type=click.IntRange(1, 36_500), help="Retention of events.")
@click.option(
    "--keep-dead-letters-days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 36_500),
    help="Retention of dead letters.",
)
@click.option("--dry-run", is_flag=True, help="Create nothing; print the topics that would be created.")
@json_option
def topics_create(
    partitions: int, replicas: int, keep_days: int, keep_dead_letters_days: int, dry_run: bool, as_json: bool
) -> None:
    """Create the missing topics of AUTHTALLY_TOPICS and AUTHTALLY_DEAD_LETTER_TOPIC. Changes no existing topic.

    \b
      authtally topics create --dry-run
      authtally topics create --partitions 12 --replicas 3

    OTP topics and the dead-letter topic always get one partition. The number of partitions limits the number of workers
    that share the work; adding partitions later moves keys to other partitions. Keep events for longer than the age of
    the oldest backup of Redis.

    Exit status: 0 all exist and are usable, 1 a topic is not usable, 2 wrong settings or options.
    """
    from deploy.cli import environment, topics
    from schemas.settings import KafkaSettings

    with settings_errors_as_usage():
        values = environment.load(KafkaSettings)
    if not topics.create(
        values, partitions, replicas, keep_days, keep_dead_letters_days, dry_run=dry_run, as_json=as_json
    ):
        raise SystemExit(1)
