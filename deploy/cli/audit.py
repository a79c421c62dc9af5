"""`authtally audit`: the changes that people ordered; and the entries that commands add to it."""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime
from typing import Any, cast

import click

from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.json_output import print_json
from deploy.cli.operations import show_table, with_ledger
from deploy.cli.terminal import echo
from schemas.ledger.audit import AuditEntry, Parameters, add_command, parse_entry, read_command


def record(settings: WorkerSettings, action: str, parameters: Parameters, number: int) -> None:
    """Add an entry for a change that this command has made. A failure is printed, because the change stands."""
    entry = AuditEntry(action, actor(), parameters, number)

    async def write(_ledger: Ledger, client: Client) -> None:
        await client.execute_command(*add_command(settings.key_prefix, entry))

    try:
        with_ledger(settings, write)
    except click.ClickException as error:
        echo(f"The change is made, but the audit log lacks it: {error.message}", err=True)


def actor() -> str:
    """`os NAME@HOST` of the user who runs the command; the number of a user without a name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        import os

        name = str(os.getuid())
    return f"os {name}@{socket.gethostname()}"


def show(settings: WorkerSettings, most: int, *, as_json: bool) -> None:
    """Print the newest entries, oldest first."""
    entries = list(reversed(read(settings, most)))
    if as_json:
        print_json({"entries": [_as_document(entry) for entry in entries]})
        return
    if not entries:
        echo("The audit log is empty.")
        return
    columns = ("time", "who", "what", "how many", "parameters")
    show_table(columns, ((_time(entry), entry.actor, entry.action, entry.number, _text(entry)) for entry in entries))


def read(settings: WorkerSettings, most: int) -> list[AuditEntry]:
    """The newest entries, newest first. Raises click.ClickException."""

    async def ask(_ledger: Ledger, client: Client) -> list[AuditEntry]:
        found = await cast(Any, client.execute_command(*read_command(settings.key_prefix, most)))
        return [parse_entry(entry_id, values) for entry_id, values in found]

    return with_ledger(settings, ask)


def _time(entry: AuditEntry) -> str:
    return datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _text(entry: AuditEntry) -> str:
    return " ".join(f"{name}={_words(value)}" for name, value in entry.parameters.items())


def _words(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isprintable() else repr(text)


def _as_document(entry: AuditEntry) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "number": entry.number,
        "parameters": entry.parameters,
    }
