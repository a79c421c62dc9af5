"""What `--json` prints: one document a call, also where a call fails."""

from __future__ import annotations

from typing import Any, Final

import click
import orjson

PRINTED: Final = "authtally.json_printed"


def print_json(result: Any) -> None:
    click.echo(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    context = click.get_current_context(silent=True)
    if context is not None:
        context.find_root().meta[PRINTED] = True


def print_error(context: click.Context, message: str, exit_status: int, **more: Any) -> None:
    """The document of a call that failed; what is not yet told. One that told its answer before says why on stderr."""
    if context.find_root().meta.get(PRINTED):
        click.echo(f"Error: {message}", err=True)
    else:
        print_json({"error": message, **more, "exit_status": exit_status})
