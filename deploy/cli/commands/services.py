"""`authtally` worker, api, demo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click

from deploy.cli.commands.options import json_option, settings_errors_as_usage
from deploy.cli.json_output import print_json
from deploy.cli.terminal import echo

LAST_PORT: Final = 65_535


def _checked(kind: type[Any], *, check: bool, as_json: bool) -> bool:
    """Load the settings of a service, and print them for `--check`; whether the command ends with that."""
    from deploy.cli import environment
    from schemas.settings import effective

    values = environment.load(kind)
    if check and as_json:
        print_json({"settings": effective(values)})
    elif check:
        for name, value in effective(values).items():
            echo(f"{name}={value}")
    return check


def _parse_until(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Parse --until. Raises click.BadParameter."""
    if value is None:
        return None
    from schemas.time import rfc3339

    try:
        return rfc3339.parse(value).astimezone(UTC)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time of RFC 3339, such as 2026-11-01T00:00:00Z") from None


check_option: Callable[[Any], Any] = click.option(
    "--check", is_flag=True, help="Print the effective settings, or all faults, and exit."
)


def _check_alone(check: bool, as_json: bool) -> None:
    if as_json and not check:
        raise click.UsageError("--json is allowed only with --check")


@click.command()
@check_option
@json_option
def worker(check: bool, as_json: bool) -> None:
    """Run a worker, which reads events from Kafka and counts them in Redis.

    \b
      authtally worker --check
      authtally worker

    Workers share the partitions of the topics; start at most one per partition. SIGTERM stops a worker, and the others
    continue from its positions.

    Exit status: 0 stopped, 1 it cannot work (the last log line gives the reason), 2 wrong settings.
    """
    _check_alone(check, as_json)
    with settings_errors_as_usage():
        from aggregator.settings import WorkerSettings

        if _checked(WorkerSettings, check=check, as_json=as_json):
            return
        from aggregator.__main__ import main as run

        run()


@click.command()
@check_option
@json_option
def api(check: bool, as_json: bool) -> None:
    """Run the api, which answers questions over HTTP from the counts in Redis.

    \b
      authtally api --check
      authtally api

    Start as many processes as the load needs. With several, set AUTHTALLY_CACHE_REDIS_URL: they then share sessions,
    rate limits and cached answers.

    Exit status: 0 stopped, 2 wrong settings.
    """
    _check_alone(check, as_json)
    with settings_errors_as_usage():
        from api.settings.settings import ApiSettings

        if _checked(ApiSettings, check=check, as_json=as_json):
            return
        from api.__main__ import main as run

        raise SystemExit(run())


@click.command()
@click.option("--events", default=60_000, show_default=True, type=click.IntRange(1000), help="Events to publish.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, LAST_PORT), help="Port of the api.")
@click.option("--token", default="demo-token", show_default=True, help="Bearer token that the api accepts.")
@click.option(
    "--until",
    metavar="INSTANT",
    callback=_parse_until,
    help="End of the sample, such as 2026-11-01T00:00:00Z; nothing follows it. Default: now, and events keep coming.",
)
@click.option("--show-answers", is_flag=True, help="Print questions on every surface with their answers.")
@click.option(
    "--regions", is_flag=True, help="Two regions that share some users; the second api has the next port after --port."
)
@click.option("--exit", "then_exit", is_flag=True, help="Check every answer against the published events, then exit.")
def demo(
    events: int,
    port: int,
    token: str,
    until: datetime | None,
    show_answers: bool,
    then_exit: bool,
    regions: bool,
) -> None:
    """Run broker, store, worker and api on this machine with sample events, until Ctrl-C. Leaves no files behind.

    The sample covers the last 14 months and the current one.

    \b
      authtally demo
      authtally demo --events 5000 --port 8888 --exit
      authtally demo --regions

    Use it to try authtally without a site; it needs the package authtally[demo].

    Exit status: 0 stopped after it was ready, 1 failed (with --exit also: an answer was wrong), 130 stopped earlier.
    """
    if regions and show_answers:
        raise click.UsageError("--show-answers is for one region: leave out --regions")
    if regions and port == LAST_PORT:
        raise click.UsageError(f"--regions needs the port after --port too, and {port} is the last one")
    from deploy.demo.servers import missing_packages

    if missing := missing_packages():
        raise click.ClickException(f"The demo needs {missing}: pip install 'authtally[demo]'")
    from deploy.demo.run import Options, run

    raise SystemExit(run(Options(events, port, token, until, then_exit, show_answers, regions)))
