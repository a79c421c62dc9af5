"""How `authtally --help` reads, what `--json` makes of errors, and what a shell completes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from deploy.cli.json_output import print_error

PROGRAM: Final = "authtally"
SHELLS: Final = ("bash", "zsh", "fish")

HELP: Final = f"""\
Statistics for identity systems: auth events from Kafka, tallies in Redis, answers over HTTP.

Auth servers publish logins, tokens and account events to Kafka. Workers fold them into a ledger in Redis, each event
once. The api answers from there: active users, logins, tokens by grant type, in the dialects of Janssen, Gluu, Auth0
and LinOTP, and in its own.

\b
A site in four commands, and a look without any:
  {PROGRAM} doctor       is everything there, and does it fit together?
  {PROGRAM} worker       count; start more of them, up to one a partition
  {PROGRAM} api          answer over HTTP, port 8080 unless AUTHTALLY_API_PORT says otherwise
  {PROGRAM} report       what it answers, as tables
  {PROGRAM} demo         broker, store, worker and api on this machine, with sample events

\b
Settings are AUTHTALLY_NAME=value in the environment, then in a file .env in the current folder, then in the folder of
secret files that AUTHTALLY_SECRETS_DIR names. Both services may share them; a name that no setting has is an error.
  {PROGRAM} worker --check     the effective values, or every fault at once; likewise of the api

\b
In scripts
  --json prints one JSON document to stdout, for errors too: "error" and "exit_status".
  Progress and remarks go to stderr: a bar on a terminal, elsewhere a line now and then.
  What moves, sends or records something is a dry run until --yes.

\b
Exit status
  0    done
  1    failed, or found what was looked for: problems, differences, rejected events
  2    wrong settings or options: the call must change
  130  stopped by Ctrl-C or SIGTERM before it was done

{PROGRAM} COMMAND --help tells of one command, with examples.
"""


class SettingsUsageError(click.ClickException):
    """Wrong settings: one line each, by name."""

    exit_code = 2

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.faults = errors

    def show(self, file: Any = None) -> None:
        for error in self.faults:
            click.echo(error, err=True)


class HelpGroup(click.Group):
    """Lists its commands by what they are for, and tells errors as JSON where that was asked for."""

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
    """Why records became dead letters."""
    from schemas.events import REASONS

    return [CompletionItem(name, help=why) for name, why in REASONS.items() if name.startswith(incomplete)]


def words(*known: str) -> Any:
    """Completes one of `known`; others may be given too."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known if word.startswith(incomplete)]

    return complete
