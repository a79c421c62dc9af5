"""The text of `authtally --help`, errors as JSON, and the words that a shell completes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from deploy.cli.json_output import print_error
from deploy.cli.terminal import LAYOUT, echo, one_line_if_full, open_closed_streams, printable
from deploy.installation import CURE, foreign_packages

PROGRAM: Final = "authtally"
SHELLS: Final = ("bash", "zsh", "fish")
INTERRUPTED: Final = 130

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
  A command with the option --yes asks on a terminal; elsewhere it changes nothing without --yes.

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


class SuggestingGroup(click.Group):
    """A group that suggests the most similar command for a misspelt one, and lists all."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}; allowed: {', '.join(self.commands)}{self._suggestion(name)}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, name: str) -> str:
        from schemas.suggestions import did_you_mean

        below = {
            each: f"{group} {each}"
            for group, command in self.commands.items()
            if isinstance(command, click.Group)
            for each in command.commands
        }
        if name in below:
            return f"; did you mean {below[name]}?"
        return did_you_mean(name, self.commands)


class HelpGroup(SuggestingGroup):
    """The top group: lists its commands by section, prints errors as JSON for `--json`, and exits 130 if stopped."""

    def __init__(self, *, sections: Mapping[str, Sequence[click.Command]], **more: Any) -> None:
        super().__init__(**more)
        self._sections = sections
        for command in chain.from_iterable(sections.values()):
            self.add_command(command)

    def main(self, *args: Any, **more: Any) -> Any:
        open_closed_streams()
        with one_line_if_full():
            return super().main(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            with _sigterm_as_interrupt():
                if foreign := foreign_packages():
                    raise click.ClickException(f"{'; '.join(foreign)}: {CURE}")
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            if as_json:
                print_error(ctx, "stopped before it was done", INTERRUPTED)
            else:
                echo("Stopped before it was done.", err=True)
            ctx.exit(INTERRUPTED)
        except click.ClickException as error:
            if isinstance(error, click.NoSuchOption):
                error = _with_suggestion(error)
            error.message = printable(error.message, LAYOUT)
            if not as_json:
                raise error from None
            more = {"faults": error.faults} if isinstance(error, SettingsUsageError) else {}
            print_error(ctx, error.format_message(), error.exit_code, **more)
            ctx.exit(error.exit_code)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([row for command in commands for row in _rows(command)])


def _with_suggestion(error: click.NoSuchOption) -> click.UsageError:
    from schemas.suggestions import did_you_mean

    known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    options = [name for name in known if name.startswith("--")]
    listed = f"; allowed: {', '.join(options)}" if options else ""
    return click.UsageError(
        f"No such option {error.option_name}{listed}{did_you_mean(error.option_name, options)}", ctx=error.ctx
    )


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Stop a command at SIGTERM as at Ctrl-C. Services and publish install handlers of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
