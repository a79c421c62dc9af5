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
