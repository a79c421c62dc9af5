"""The command `authtally`. Commands import what they run when they run: `--help` answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

# What a wrong setting and a wrong option have in common: the call must change before it can work.
BAD_SETTINGS = 2


@contextmanager
def faults_told() -> Iterator[None]:
    """Turn SettingsError into one line per fault on stderr and exit status 2."""
    from schemas.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        raise SystemExit(BAD_SETTINGS) from error


def _show(settings: Any) -> None:
    from schemas.settings import effective

    for name, value in effective(settings).items():
        click.echo(f"{name}={value}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="authtally")
def main() -> None:
    """Statistics for identity systems: auth events from Kafka, tallies in Redis, answers over HTTP.

    Settings come from the environment (AUTHTALLY_…) and from a file `.env` in the current folder.
    """


check_option: Callable[[Any], Any] = click.option(
    "--check", is_flag=True, help="Print the effective settings, or every fault at once, and exit."
)


@main.command()
@check_option
def worker(check: bool) -> None:
    """Run a worker: events from Kafka into Redis."""
    with faults_told():
        from aggregator.settings import WorkerSettings
        from deploy import environment

        values = environment.load(WorkerSettings)
        if check:
            _show(values)
            return
        from aggregator.__main__ import main as run

        run()


@main.command()
@check_option
def api(check: bool) -> None:
    """Run the api: answers from Redis over HTTP."""
    with faults_told():
        from api.settings import ApiSettings
        from deploy import environment

        values = environment.load(ApiSettings)
        if check:
            _show(values)
            return
        from api.__main__ import main as run

        raise SystemExit(run())


@main.command()
@click.option("--events", default=60_000, show_default=True, type=click.IntRange(1000), help="Events to publish.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65_535), help="Where the api answers.")
@click.option("--token", default="demo-token", show_default=True, help="The bearer token that the api accepts.")
@click.option("--exit", "then_exit", is_flag=True, help="Check every answer against what was published, and exit.")
def demo(events: int, port: int, token: str, then_exit: bool) -> None:
    """Run everything on this machine with sample events, until Ctrl-C; leaves nothing behind."""
    from deploy.demo import run

    raise SystemExit(run(events=events, port=port, token=token, then_exit=then_exit))


def _worker_settings() -> Any:
    from aggregator.settings import WorkerSettings
    from deploy import environment

    with faults_told():
        return environment.load(WorkerSettings)


yes_option: Callable[[Any], Any] = click.option("--yes", is_flag=True, help="Do it without asking.")
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")


@main.group()
def positions() -> None:
    """Show or move the positions that shards are counted up to."""


@positions.command("show")
def positions_show() -> None:
    """Position, log start and end, lag of every shard, and whether its topic is still the same."""
    from deploy import positions

    positions.show(_worker_settings())


@positions.command("reset")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.option("--to", required=True, metavar="earliest|latest|OFFSET", help="The position to count from.")
@yes_option
def positions_reset(topic: str, partition: int, to: str, yes: bool) -> None:
    """Move one shard; says what is counted twice or not at all. A dry run unless confirmed."""
    from deploy import positions
    from schemas.keys import Shard

    positions.reset(_worker_settings(), Shard(topic, partition), to, yes)


@main.group("dead-letters")
def dead_letters() -> None:
    """What could not be counted."""


@dead_letters.command("list")
def dead_letters_list() -> None:
    """Counts by reason, and a few samples without their values."""
    from deploy import dead_letters

    dead_letters.show(_worker_settings())


@dead_letters.command("resend")
@click.option("--reason", help="Only those of this reason.")
@yes_option
def dead_letters_resend(reason: str | None, yes: bool) -> None:
    """Send records again to the topics they came from, each once. A dry run unless confirmed.

    What was resent is remembered: a second run sends nothing. A run that is killed sends at most its last batch again.
    """
    from deploy import dead_letters

    dead_letters.resend(_worker_settings(), reason, yes)


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
    from pathlib import Path

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


@main.command()
@click.argument("question", type=click.Choice(QUESTIONS), default="overview", metavar=f"[{'|'.join(QUESTIONS)}]")
@click.option("--url", help="Where the api answers.  [default: AUTHTALLY_URL, else http://127.0.0.1:8080]")
@click.option("--token-file", metavar="FILE", help="File that holds the bearer token.  [default: AUTHTALLY_TOKEN]")
@click.option("--date", metavar="YYYY-MM-DD", help="Day of the overview.  [default: today]")
@click.option("--month", metavar="YYYY-MM", help="Month of m2m.  [default: this one]")
@click.option("--from", metavar="YYYY-MM-DD", help="First day of a series.  [default: 30 days up to --to]")
@click.option("--to", metavar="YYYY-MM-DD", help="Last day of a series.  [default: today]")
@click.option("--granularity", metavar="G", help="day, week, month or range; of counters day or month.  [default: day]")
@click.option("--group-by", metavar="NAMES", help="realm, client_id or node; of counters also reason, grant_type, …")
@click.option("--realm", help="Only this realm.")
@click.option("--client-id", help="Only this client.")
@click.option("--node", help="Only this node.")
@click.option("--limit", metavar="N", help="How many groups at most, largest first.")
@json_option
def report(question: str, url: str | None, token_file: str | None, as_json: bool, **parameters: str | None) -> None:
    """Ask a running api and show its answer as a table.

    \b
      export AUTHTALLY_TOKEN=…
      authtally report
      authtally report active-users --granularity month --from 2026-01-01
      authtally report logins --group-by reason --url https://stats.example.org --token-file token
      authtally report pipeline --json

    The token needs the scope stats:read. It comes from a file or the environment, never from the command line, which
    every user of the machine can read.

    Exit status: 0 answered, 1 no answer, 2 wrong settings or options.
    """
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


@main.group()
def settings() -> None:
    """Settings that a ledger was counted with."""


@settings.command("adopt")
@yes_option
def settings_adopt(yes: bool) -> None:
    """Go on counting with changed settings, recording from which position they hold. A dry run unless confirmed."""
    from deploy import settings_adopt

    settings_adopt.adopt(_worker_settings(), yes)


if __name__ == "__main__":
    main()
