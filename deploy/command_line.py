"""The command `authtally`. Commands import what they run when they run: `--help` answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from deploy import command_help
from deploy.command_help import FaultsError
from deploy.json_answer import print_json


@contextmanager
def faults_told() -> Iterator[None]:
    """Turn SettingsError into one line per fault on stderr, or JSON, and exit status 2."""
    from schemas.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        raise FaultsError(error.faults) from error


def _show(settings: Any, as_json: bool) -> None:
    from schemas.settings import effective

    if as_json:
        print_json({"settings": effective(settings)})
        return
    for name, value in effective(settings).items():
        click.echo(f"{name}={value}")


@click.group(
    cls=command_help.Manual,
    help=command_help.MANUAL,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="authtally")
def main() -> None: ...


check_option: Callable[[Any], Any] = click.option(
    "--check", is_flag=True, help="Print the effective settings, or every fault at once, and exit."
)
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")


def _check_alone(check: bool, as_json: bool) -> None:
    if as_json and not check:
        raise click.UsageError("--json goes with --check")


@main.command()
@check_option
@json_option
def worker(check: bool, as_json: bool) -> None:
    """Run a worker: events from Kafka into Redis.

    \b
      authtally worker --check
      authtally worker

    Start as many as there are partitions; they share them out. SIGTERM ends one, and another goes on where it stood.

    Exit status: 0 stopped, 1 it cannot work, which its last line explains, 2 wrong settings.
    """
    _check_alone(check, as_json)
    with faults_told():
        from aggregator.settings import WorkerSettings
        from deploy import environment

        values = environment.load(WorkerSettings)
        if check:
            _show(values, as_json)
            return
        from aggregator.__main__ import main as run

        run()


@main.command()
@check_option
@json_option
def api(check: bool, as_json: bool) -> None:
    """Run the api: answers from Redis over HTTP.

    \b
      authtally api --check
      authtally api

    Start as many as there are requests for; with several, AUTHTALLY_CACHE_REDIS_URL lets them share what they keep.

    Exit status: 0 stopped, 2 wrong settings.
    """
    _check_alone(check, as_json)
    with faults_told():
        from api.settings import ApiSettings
        from deploy import environment

        values = environment.load(ApiSettings)
        if check:
            _show(values, as_json)
            return
        from api.__main__ import main as run

        raise SystemExit(run())


@main.command()
@click.option("--events", default=60_000, show_default=True, type=click.IntRange(1000), help="Events to publish.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65_535), help="Where the api answers.")
@click.option("--token", default="demo-token", show_default=True, help="The bearer token that the api accepts.")
@click.option("--exit", "then_exit", is_flag=True, help="Check every answer against what was published, and exit.")
def demo(events: int, port: int, token: str, then_exit: bool) -> None:
    """Run everything on this machine with sample events, until Ctrl-C; leaves nothing behind.

    \b
      authtally demo
      authtally demo --events 5000 --port 8888 --exit

    Exit status: 0 ended after it was ready, 1 failed or, with --exit, an answer was wrong, 130 stopped before.
    """
    from deploy.demo import run

    raise SystemExit(run(events=events, port=port, token=token, then_exit=then_exit))


def _worker_settings() -> Any:
    from aggregator.settings import WorkerSettings
    from deploy import environment

    with faults_told():
        return environment.load(WorkerSettings)


yes_option: Callable[[Any], Any] = click.option("--yes", is_flag=True, help="Do it without asking.")


@main.command()
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

    from deploy.doctor import Options, age_of, oldest_in
    from deploy.doctor import doctor as run
    from deploy.doctor_topics import Backup

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


@main.group()
def positions() -> None:
    """Show or move the positions that shards are counted up to."""


@positions.command("show")
@json_option
def positions_show(as_json: bool) -> None:
    """Position, log start and end, lag of every shard, and whether its topic is still the same.

    \b
      authtally positions show
      authtally positions show --json | jq '[.shards[].lag] | add'
    """
    from deploy import positions

    positions.show(_worker_settings(), as_json=as_json)


@positions.command("reset")
@click.argument("topic", shell_complete=command_help.topics)
@click.argument("partition", type=click.IntRange(0))
@click.option(
    "--to",
    required=True,
    metavar="earliest|latest|OFFSET",
    help="The position to count from.",
    shell_complete=command_help.words("earliest", "latest"),
)
@yes_option
@json_option
def positions_reset(topic: str, partition: int, to: str, yes: bool, as_json: bool) -> None:
    """Move one shard; says what is counted twice or not at all. A dry run unless confirmed.

    \b
      authtally positions reset auth.logins 3 --to earliest
      authtally positions reset auth.logins 3 --to 120000 --yes
    """
    from deploy import positions
    from schemas.keys import Shard

    positions.reset(_worker_settings(), Shard(topic, partition), to, yes, as_json=as_json)


@main.group("dead-letters")
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
    from deploy import dead_letters

    dead_letters.show(_worker_settings(), as_json=as_json)


@dead_letters.command("resend")
@click.option("--reason", help="Only those of this reason.", shell_complete=command_help.reasons)
@yes_option
@json_option
def dead_letters_resend(reason: str | None, yes: bool, as_json: bool) -> None:
    """Send records again to the topics they came from, each once. A dry run unless confirmed.

    \b
      authtally dead-letters resend
      authtally dead-letters resend --reason impossible_time --yes

    What was resent is remembered: a second run sends nothing. A run that is killed sends at most its last batch again.
    """
    from deploy import dead_letters

    dead_letters.resend(_worker_settings(), reason, yes, as_json=as_json)


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


@main.command()
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
    from deploy import environment
    from deploy.publish import publish as run
    from deploy.publish_run import Options, PublishSettings

    with faults_told():
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


@main.command("import-stat")
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
    from deploy import import_stat

    if file is not None and remove:
        raise click.UsageError("either FILE or --remove")
    values = _worker_settings()
    if file is not None:
        import_stat.bring(values, file, source, replace=replace, dry_run=dry_run, as_json=as_json)
    elif remove:
        import_stat.remove(values, remove, dry_run=dry_run, as_json=as_json)
    else:
        import_stat.show(values, as_json=as_json)


QUESTIONS = ("overview", "active-users", "logins", "tokens", "accounts", "m2m", "pipeline")


VERIFY = "verify"


@main.command()
@click.argument(
    "question",
    type=click.Choice((*QUESTIONS, VERIFY)),
    default="overview",
    metavar=f"[{'|'.join((*QUESTIONS, VERIFY))}]",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Where the api answers.  [default: AUTHTALLY_URL, else http://127.0.0.1:8080]")
@click.option("--token-file", metavar="FILE", help="File that holds the bearer token.  [default: AUTHTALLY_TOKEN]")
@click.option("--date", metavar="YYYY-MM-DD", help="Day of the overview.  [default: today]")
@click.option("--month", metavar="YYYY-MM", help="Month of m2m, or to sign.  [default: this one; the last]")
@click.option("--from", metavar="YYYY-MM-DD", help="First day of a series.  [default: 30 days up to --to]")
@click.option("--to", metavar="YYYY-MM-DD", help="Last day of a series.  [default: today]")
@click.option("--granularity", metavar="G", help="day, week, month or range; of counters day or month.  [default: day]")
@click.option("--group-by", metavar="NAMES", help="realm, client_id or node; of counters also reason, grant_type, …")
@click.option("--realm", help="Only this realm.")
@click.option("--client-id", help="Only this client.")
@click.option("--node", help="Only this node.")
@click.option("--limit", metavar="N", help="How many groups at most, largest first.")
@click.option("--sign", type=click.Path(path_type=Path), metavar="KEYFILE", help="Sign a month's report: see above.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where the signed report goes.")
@click.option("--key", type=click.Path(path_type=Path), metavar="KEYFILE", help="To verify: the signer's public key.")
@json_option
def report(
    question: str,
    file: Path | None,
    url: str | None,
    token_file: str | None,
    sign: Path | None,
    output: Path | None,
    key: Path | None,
    as_json: bool,
    **parameters: str | None,
) -> None:
    """Ask a running api and show its answer as a table; or sign a month's report, and verify one.

    \b
      export AUTHTALLY_TOKEN=…
      authtally report
      authtally report active-users --granularity month --from 2026-01-01
      authtally report logins --group-by reason --url https://stats.example.org --token-file token
      authtally report pipeline --json

    The token needs the scope stats:read. It comes from a file or the environment, never from the command line, which
    every user of the machine can read.

    \b
      openssl genpkey -algorithm ed25519 -out report.key
      openssl pkey -in report.key -pubout -out report.pub
      authtally report --month 2026-10 --sign report.key --output 2026-10.json
      authtally report verify 2026-10.json --key report.pub

    A signed report is made from the ledger itself, AUTHTALLY_REDIS_URL, not from an api: figures of the month, of each
    realm too, with the log positions that they cover and the settings that they were counted with.

    Exit status: 0 answered, 1 no answer, or a signature that does not hold, 2 wrong settings or options.
    """
    if question == VERIFY or file or sign or key or output:
        _signed_report(question, file, sign, output, key, parameters, as_json=as_json)
        return
    from deploy import environment
    from deploy.report import Api, ReportSettings, http_url, token_of
    from deploy.report import report as run

    with faults_told():
        values = environment.load(ReportSettings)
    try:
        api = Api(http_url(url) if url else values.url, token_of(values, token_file))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    run(api, question, {name: value for name, value in parameters.items() if value is not None}, as_json=as_json)


def _signed_report(
    question: str,
    file: Path | None,
    sign: Path | None,
    output: Path | None,
    key: Path | None,
    parameters: dict[str, str | None],
    *,
    as_json: bool,
) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in parameters.items() if value is not None]
    if question == VERIFY:
        if file is None or key is None or sign or output or given:
            raise click.UsageError("report verify FILE --key KEYFILE, and nothing else")
        from deploy.report.month import verify

        verify(file, key, as_json=as_json)
        return
    if sign is None or file or key or question != "overview" or set(given) - {"--month"}:
        raise click.UsageError("report --sign KEYFILE takes --month and --output, and nothing else")
    from deploy import environment
    from deploy.report.month import sign as run
    from schemas.settings import CommonSettings

    with faults_told():
        values = environment.load(CommonSettings)
    run(values, sign, parameters["month"], output)


@main.group()
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
    from deploy import settings_adopt

    settings_adopt.adopt(_worker_settings(), yes, as_json=as_json)


@main.command()
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
    from deploy.verify.recount import recount as run

    if not run(_worker_settings(), month, as_json=as_json):
        raise SystemExit(1)


@main.group()
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
    from deploy import snapshot

    snapshot.save(_worker_settings(), file, keep, overwrite=overwrite, as_json=as_json)


@snapshot.command("show")
@file_argument
@json_option
def snapshot_show(file: Path, as_json: bool) -> None:
    """Check every byte of FILE, and tell what is in it. Asks no server.

    \b
      authtally snapshot show ledger.snapshot

    Exit status: 0 whole, 1 damaged or unreadable.
    """
    from deploy import snapshot

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
    from deploy import snapshot

    snapshot.restore(
        _worker_settings(), file, replace=replace, ask_kafka=not without_kafka, dry_run=dry_run, as_json=as_json
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

    Exit status: 0 all agree, 1 something differs or cannot be verified, 2 wrong settings or options.
    """
    if (file is None) != from_start:
        raise click.UsageError("either FILE or --from-start")
    from deploy.verify import verify

    if not verify(_worker_settings(), file, scratch_url, as_json=as_json):
        raise SystemExit(1)


@main.group()
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
    from deploy import environment, topics
    from schemas.settings import KafkaSettings

    with faults_told():
        values = environment.load(KafkaSettings)
    if not topics.create(
        values, partitions, replicas, keep_days, keep_dead_letters_days, dry_run=dry_run, as_json=as_json
    ):
        raise SystemExit(1)


@main.command()
@click.argument("shell", type=click.Choice(command_help.SHELLS))
def completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options, formats and topics.

    \b
      eval "$(authtally completion bash)"                                            in ~/.bashrc
      eval "$(authtally completion zsh)"                                             in ~/.zshrc
      authtally completion fish > ~/.config/fish/completions/authtally.fish
    """
    from click.shell_completion import get_completion_class

    completes: Any = get_completion_class(shell)
    program = command_help.PROGRAM
    click.echo(completes(main, {}, program, f"_{program.upper()}_COMPLETE").source())


if __name__ == "__main__":
    main(prog_name=command_help.PROGRAM)
