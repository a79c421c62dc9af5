"""The text of `authtally --help`, errors as JSON, and the words that a shell completes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from deploy.cli.json_output import print_error
from deploy.cli.terminal import LAYOUT, echo, printable

PROGRAM: Final = "authtally"
SHELLS: Final = ("bash", "zsh", "fish")

HELP: Final = f"""\
Statistics for identity systems: auth events from Kafka, counts in Redis, answers over HTTP.

Auth servers publish logins, tokens and account events to Kafka. Workers count each event once into the ledger, a set
of keys in Redis. The api answers from the ledger: active users, logins, tokens by grant type, in the dialects of
Janssen, Gluu, Auth0 and LinOTP, and in its own.

\b
A site in four commands, and a demo that needs no site:
  {PROGRAM} doctor       check settings, Kafka, Redis, ledger and access
  {PROGRAM} worker       count events; start up to one worker per partition
  {PROGRAM} api          answer over HTTP, on port 8080 unless AUTHTALLY_API_PORT is set
  {PROGRAM} report       print the api's answers as tables
  {PROGRAM} demo         run broker, store, worker and api on this machine, with sample events

\b
Settings are AUTHTALLY_NAME=value in the environment, then in a file .env in the current folder, then in the folder of
secret files that AUTHTALLY_SECRETS_DIR names. Worker and api may share them; an unknown AUTHTALLY_ name is an error.
  {PROGRAM} worker --check     print the effective values, or all faults; the same for the api

\b
In scripts
  --json prints one JSON document to stdout, also for errors: "error" and "exit_status".
  Progress and remarks go to stderr: a bar on a terminal, otherwise a line every 30 s.
  A command that moves, sends or records something is a dry run without --yes.

\b
Exit status
  0    done
  1    failed, or found problems, differences or rejected events
  2    wrong settings or options: the call must change
  130  stopped by Ctrl-C or SIGTERM before it was done

{PROGRAM} COMMAND --help explains one command, with examples.
"""


class SettingsUsageError(click.ClickException):
    """Wrong settings, printed one per line by name."""

    exit_code = 2

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.faults = errors

    def show(self, file: Any = None) -> None:
        for error in self.faults:
            echo(error, err=True)


class HelpGroup(click.Group):
    """A group that lists its commands by section and prints errors as JSON for `--json`."""

    def __init__(self, *, sections: Mapping[str, Sequence[click.Command]], **more: Any) -> None:
        super().__init__(**more)
        self._sections = sections
        for command in chain.from_iterable(sections.values()):
            self.add_command(command)

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = printable(error.message, LAYOUT)
            if not as_json:
                raise
            more = {"faults": error.faults} if isinstance(error, SettingsUsageError) else {}
            print_error(ctx, error.format_message(), error.exit_code, **more)
            ctx.exit(error.exit_code)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([row for command in commands for row in _rows(command)])


def _rows(command: click.Command) -> list[tuple[str, str]]:
    name = str(command.name)
    if isinstance(command, click.Group):
        return [(f"{name} {each}", _line(under)) for each, under in command.commands.items()]
    return [(name, _line(command))]


def _line(command: click.Command) -> str:
    return command.get_short_help_str(limit=200)


def topics(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The topics of AUTHTALLY_TOPICS."""
    from deploy.cli import environment
    from schemas.settings import KafkaSettings, SettingsError

    try:
        found = list(environment.load(KafkaSettings).topics)
    except SettingsError:
        found = list(KafkaSettings.model_fields["topics"].default)
    return [CompletionItem(topic) for topic in found if topic.startswith(incomplete)]


def reasons(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The reasons of dead letters."""
    from schemas.events import REASONS

    return [CompletionItem(name, help=why) for name, why in REASONS.items() if name.startswith(incomplete)]


def words(*known: str) -> Any:
    """A completer for `known`; the argument accepts other words too."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known if word.startswith(incomplete)]

    return complete
