"""Options and settings handling that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from deploy.cli.commands.help import SettingsUsageError


@contextmanager
def settings_errors_as_usage() -> Iterator[None]:
    """Turn SettingsError into one line per fault on stderr, or into JSON, and exit status 2."""
    from schemas.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        raise SettingsUsageError(error.errors) from error


def worker_settings() -> Any:
    from aggregator.settings import WorkerSettings
    from deploy.cli import environment

    with settings_errors_as_usage():
        return environment.load(WorkerSettings)


json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
)


yes_option: Callable[[Any], Any] = click.option("--yes", is_flag=True, help="Make the change without asking.")
