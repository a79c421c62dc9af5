"""`authtally settings adopt`: record a changed setting in the ledger, with the position from which it applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import click

from aggregator.ledger.ledger import Ledger, Refused
from aggregator.ledger.store import Client
from aggregator.settings import NEVER_ADOPTED, WorkerSettings
from deploy.cli import audit
from deploy.cli.json_output import print_json
from deploy.cli.operations import confirmed, shards_held, show_table, with_ledger
from deploy.cli.terminal import echo
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.settings import PREFIX

COLUMNS: Final = ("setting", "counted_with", "now", "topic", "partition", "from_position")


class Change(NamedTuple):
    """A setting that differs from the shard's recorded value. An older format is no change: workers upgrade it."""

    shard: Shard
    position: int
    last_record_ms: int
    setting: str
    held: str
    now: str


def changes(
    shard: Shard, position: int, last_record_ms: int, meta: Mapping[str, str], now: Mapping[str, str]
) -> list[Change]:
    return [
        Change(shard, position, last_record_ms, name, meta[name], value)
        for name, value in now.items()
        if name in meta and meta[name] != value and not (name == "format" and int(meta[name]) < int(value))
    ]


def additions(of_shard: list[Change]) -> dict[str, str]:
    """The fields for a shard's meta: the new values, and since when."""
    added = {}
    for change in of_shard:
        added[change.setting] = change.now
        # The log's clock, not ours: repeating the command at the same position writes the same.
        added[fields.since(change.setting)] = fields.observation(change.position, change.last_record_ms)
    return added


def adopt(settings: WorkerSettings, yes: bool, *, as_json: bool) -> None:
    """Print the differences and record them, shard by shard; safe to repeat. Raises click.ClickException."""

    async def ask(ledger: Ledger, client: Client) -> list[Change]:
        found = []
        for shard in sorted(await shards_held(client, settings)):
            state = await ledger.read_state(shard)
            if shard.topic in settings.topics and state.position is not None:
                last = await cast(Any, client.hget(ledger.keys(shard).progress, fields.LAST_RECORD))
                now = settings.counted_with(shard.topic)
                found += changes(shard, state.position, int(last or 0), state.meta, now)
        return found

    found = with_ledger(settings, ask)
    rows = [(*_named(change), *change.shard, change.position) for change in found]
    if not found and not as_json:
        echo("No difference: every shard was counted with these settings.")
        return
    if not as_json:
        show_table([name.replace("_", " ") for name in COLUMNS], rows)
    if newer := next((change for change in found if change.setting == "format"), None):
        raise click.ClickException(
            f"the ledger has format {newer.held}, this version reads {newer.now}: run a newer version"
        )
    fixed = sorted({change.setting for change in found} & NEVER_ADOPTED)
    if fixed:
        names = ", ".join(PREFIX + name.upper() for name in fixed)
        raise click.ClickException(
            f"{names} cannot change in a ledger that has counts: "
            f"restore the old value, or count again under another {PREFIX}KEY_PREFIX. Nothing was changed."
        )
    document: dict[str, Any] = {"changes": [dict(zip(COLUMNS, row, strict=True)) for row in rows], "recorded": False}
    if not as_json:
        echo(
            "Counts made so far stay as they are; the new values apply from these positions on.\n"
            "Stop the workers first: a running worker continues with its old settings."
        )
    if not (found and confirmed(yes, "Record it?", as_json=as_json)):
        if as_json:
            print_json(document)
        return

    async def write(ledger: Ledger, _client: Client) -> list[Shard]:
        moved = []
        for shard in sorted({change.shard for change in found}):
            of_shard = [change for change in found if change.shard == shard]
            if isinstance(await ledger.adopt_settings(shard, of_shard[0].position, additions(of_shard)), Refused):
                moved.append(shard)
        return moved

    moved = with_ledger(settings, write)
    if moved:
        raise click.ClickException(
            f"{', '.join(shard.tag for shard in moved)} moved meanwhile and kept the old values; "
            "the others are recorded: stop the workers and repeat"
        )
    changed = sorted({change.setting.upper() for change in found})
    audit.record(settings, "settings adopt", {"settings": changed}, len({change.shard for change in found}))
    if as_json:
        print_json(document | {"recorded": True})
    else:
        echo("Recorded.")


def _named(change: Change) -> tuple[str, str, str]:
    # Fingerprints are not printed: they identify the key, and the words are enough.
    secret = change.setting == "user_hash_key"
    return PREFIX + change.setting.upper(), "another key" if secret else change.held, "" if secret else change.now
