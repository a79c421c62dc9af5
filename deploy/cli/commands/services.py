"""`authtally` worker, api, demo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from deploy.cli.commands.options import json_option, settings_errors_as_usage
from deploy.cli.json_output import print_json


def _show(settings: Any, as_json: bool) -> None:
    from schemas.settings import effective

    if as_json:
        print_json({"settings": effective(settings)})
        return
    for name, value in effective(settings).items():
        click.echo(f"{name}={value}")


check_option: Callable[[Any], Any] = click.option(
    "--check", is_flag=True, help="Print the effective settings, or every fault at once, and exit."
)


def _check_alone(check: bool, as_json: bool) -> None:
    if as_json and not check:
        raise click.UsageError("--json goes with --check")


@click.command()
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
    with settings_errors_as_usage():
        from aggregator.settings import WorkerSettings
        from deploy.cli import environment

        values = environment.load(WorkerSettings)
        if check:
            _show(values, as_json)
            return
        from aggregator.__main__ import main as run

        run()


@click.command()
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
    with settings_errors_as_usage():
        from api.settings.settings import ApiSettings
        from deploy.cli import environment

        values = environment.load(ApiSettings)
        if check:
            _show(values, as_json)
            return
        from api.__main__ import main as run

        raise SystemExit(run())


@click.command()
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
    from deploy.demo.run import run

    raise SystemExit(run(events=events, port=port, token=token, then_exit=then_exit))
