"""Output of `--json`: one document per call, also for a call that fails."""

from __future__ import annotations

from typing import Any, Final

import click
import orjson

from deploy.cli.terminal import echo, printable_json

PRINTED: Final = "authtally.json_printed"


def print_json(result: Any) -> None:
    click.echo(printable_json(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode()))
    context = click.get_current_context(silent=True)
    if context is not None:
        context.find_root().meta[PRINTED] = True


def print_error(context: click.Context, message: str, exit_status: int, **more: Any) -> None:
    """Print the document of a failed call; to stderr, as text, if the call has printed its document already."""
    if context.find_root().meta.get(PRINTED):
        echo(f"Error: {message}", err=True)
    else:
        print_json({"error": message, **more, "exit_status": exit_status})
