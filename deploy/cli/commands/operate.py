"""`authtally` doctor, positions, dead-letters, settings, topics."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.commands import help as manual
from deploy.cli.commands.options import json_option, settings_errors_as_usage, worker_settings, yes_option


@click.command()
@click.option(
    "--service",
    "services",
    type=click.Choice(("worker", "api")),
    multiple=True,
    help="Look at what this one needs only.  [default: both]",
)
@click.option("--backup-age", metavar="AGE", help="Age of the oldest backup of Redis: 36h, 7d.")
@click.option(
    "--backups",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of backups or snapshots: its oldest file is it.",
)
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1, 120),
    help="How long each server may take.",
)
@json_option
def doctor(
    services: tuple[str, ...], backup_age: str | None, backups: Path | None, timeout: float, as_json: bool
) -> None:
    """Look at settings, Kafka, Redis, ledger and access, and say what to do about each finding. Changes nothing.

    \b
      authtally doctor
      authtally doctor --service worker --backups /var/backups/redis
      authtally doctor --backup-age 7d --json | jq '.findings[] | select(.verdict == "problem")'

    A finding is ok; a warning, which holds nothing up today; a problem; or unknown, where a right is missing to look:
    it says which. Kafka must reach back to the oldest backup of Redis, or what was counted in between is lost with it.

    Exit status: 0 no problem, 1 problems, 2 wrong settings or options.
    """
    import time

    from deploy.cli.doctor import Options, age_of, oldest_in
    from deploy.cli.doctor import doctor as run
    from deploy.cli.doctor.topics import Backup

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


@click.group()
def positions() -> None:
    """Show, move or repair shards: their positions, limits and indexes."""


@positions.command("show")
@json_option
def positions_show(as_json: bool) -> None:
    """Position, log start and end, lag of every shard, and whether its topic is still the same.

    \b
      authtally positions show
      authtally positions show --json | jq '[.shards[].lag] | add'

    untimed: records without a usable timestamp. unexpected: records that met a defect, and how many of them are allowed
    before the partition stops.
    """
    from deploy.cli import positions

    positions.show(worker_settings(), as_json=as_json)


@positions.command("reset")
@click.argument("topic", shell_complete=manual.topics)
@click.argument("partition", type=click.IntRange(0))
@click.option(
    "--to",
    required=True,
    metavar="earliest|latest|OFFSET",
    help="The position to count from.",
    shell_complete=manual.words("earliest", "latest"),
)
@yes_option
@json_option
def positions_reset(topic: str, partition: int, to: str, yes: bool, as_json: bool) -> None:
    """Move one shard; says what is counted twice or not at all. A dry run unless confirmed.

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
    """Let a partition go on that stopped because of unexpected records: it may hold N of them in all.

    \b
      authtally positions allow-unexpected auth.logins 3 200

    Such records met a defect of this program. They are dead letters, and their number is limited: a defect that meets
    all records must not empty a topic into the dead letters. Report the defect first; its log line names the offset.
    """
    from deploy.cli import positions
    from schemas.ledger.keys import Shard

    positions.allow_unexpected(worker_settings(), Shard(topic, partition), number, as_json=as_json)


@positions.command("rebuild-index")
@click.argument("topic", required=False, shell_complete=manual.topics)
@click.argument("partition", required=False, type=click.IntRange(0))
@click.option("--all", "every", is_flag=True, help="All shards that the ledger holds.")
@yes_option
@json_option
def positions_rebuild_index(topic: str | None, partition: int | None, every: bool, yes: bool, as_json: bool) -> None:
    """Add the periods that have keys to the index, where it lost them. A dry run unless confirmed.

    \b
      authtally positions rebuild-index --all
      authtally positions rebuild-index auth.logins 3 --yes

    Repairs what versions of format 1 did when one record had a timestamp far ahead: they hid every day. Also removes
    such timestamps from progress and days. Safe while workers run, and safe to repeat.
    """
    from deploy.cli import index_repair
    from schemas.ledger.keys import Shard

    if every == (topic is not None) or (topic is None) != (partition is None):
        raise click.UsageError("either TOPIC PARTITION or --all")
    shard = None if topic is None or partition is None else Shard(topic, partition)
    index_repair.rebuild_index(worker_settings(), shard, yes, as_json=as_json)


@click.group("dead-letters")
def dead_letters() -> None:
    """What could not be counted."""


@dead_letters.command("list")
@json_option
def dead_letters_list(as_json: bool) -> None:
    """Counts by reason, and a few samples without their values.

    \b
      authtally dead-letters list
      authtally dead-letters list --json | jq '.letters[] | select(.resent < .records)'
    """
    from deploy.cli import dead_letters

    dead_letters.show(worker_settings(), as_json=as_json)


@dead_letters.command("resend")
@click.option("--reason", help="Only those of this reason.", shell_complete=manual.reasons)
@yes_option
@json_option
def dead_letters_resend(reason: str | None, yes: bool, as_json: bool) -> None:
    """Send records again to the topics they came from, each once. A dry run unless confirmed.

    \b
      authtally dead-letters resend
      authtally dead-letters resend --reason impossible_time --yes

    What was resent is remembered: a second run sends nothing. A run that is killed sends at most its last batch again.
    """
    from deploy.cli import dead_letters

    dead_letters.resend(worker_settings(), reason, yes, as_json=as_json)


@click.group()
def settings() -> None:
    """Settings that a ledger was counted with."""


@settings.command("adopt")
@yes_option
@json_option
def settings_adopt(yes: bool, as_json: bool) -> None:
    """Go on counting with changed settings, recording from which position they hold. A dry run unless confirmed.

    \b
      authtally settings adopt
      authtally settings adopt --yes
    """
    from deploy.cli import settings_adopt

    settings_adopt.adopt(worker_settings(), yes, as_json=as_json)


@click.group()
def topics() -> None:
    """The topics that the worker reads, and that of the dead letters."""


@topics.command("create")
@click.option("--partitions", default=6, show_default=True, type=click.IntRange(1, 100_000), help="Of each topic.")
@click.option("--replicas", default=-1, type=click.IntRange(-1, 127), help="Copies of each.  [default: the brokers']")
@click.option("--keep-days", default=7, show_default=True, type=click.IntRange(1, 36_500), help="Of what is read.")
@click.option(
    "--keep-dead-letters-days", default=30, show_default=True, type=click.IntRange(1, 36_500), help="Of dead letters."
)
@click.option("--dry-run", is_flag=True, help="Make nothing: tell what would be made.")
@json_option
def topics_create(
    partitions: int, replicas: int, keep_days: int, keep_dead_letters_days: int, dry_run: bool, as_json: bool
) -> None:
    """Make the topics of AUTHTALLY_TOPICS and AUTHTALLY_DEAD_LETTER_TOPIC that are missing; change none that is there.

    \b
      authtally topics create --dry-run
      authtally topics create --partitions 12 --replicas 3

    OTP topics and the dead letters get one partition, whatever --partitions says. As many workers as there are
    partitions can share the work; adding partitions later sends keys elsewhere. Kafka should keep what is read for
    longer than the oldest backup of Redis is old.

    Exit status: 0 all are there and fit, 1 not, 2 wrong settings or options.
    """
    from deploy.cli import environment, topics
    from schemas.settings import KafkaSettings

    with settings_errors_as_usage():
        values = environment.load(KafkaSettings)
    if not topics.create(
        values, partitions, replicas, keep_days, keep_dead_letters_days, dry_run=dry_run, as_json=as_json
    ):
        raise SystemExit(1)
