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
    """For commands that compare or record the settings of the counts, the key's fingerprint included."""
    from aggregator.settings import WorkerSettings
    from deploy.cli import environment

    with settings_errors_as_usage():
        return environment.load(WorkerSettings)


def operator_settings() -> Any:
    """For commands that do without AUTHTALLY_USER_HASH_KEY."""
    from aggregator.settings import OperatorSettings
    from deploy.cli import environment

    with settings_errors_as_usage():
        return environment.load(OperatorSettings)


class Choice(click.Choice[str]):
    """A choice that suggests the most similar word."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        from schemas.suggestions import did_you_mean

        return f"{value!r} is not one of {', '.join(self.choices)}{did_you_mean(str(value), self.choices)}"


json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
)


yes_option: Callable[[Any], Any] = click.option("--yes", is_flag=True, help="Make the change without asking.")
