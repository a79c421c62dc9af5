"""The audit log: changes that people order, as entries of one bounded Redis stream.

An entry's id is the time of the store's clock in milliseconds, with a sequence number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from schemas.ledger import keys

MAX_ENTRIES: Final = 1_000
"""Entries that the stream keeps, about 300 bytes each. Redis removes older ones, in blocks of up to 100."""
MAX_PARAMETERS: Final = 2_000
"""Most characters of the parameters of an entry; longer lists are cut."""

Parameters = Mapping[str, Any]


class AuditEntry(NamedTuple):
    """One change. Neither parameters nor actor contain secrets or user ids of events."""

    action: str
    actor: str
    """`subject NAME` for a caller of the api, `os NAME@HOST` for a user of a command."""
    parameters: Parameters
    number: int
    """Number of rows, months, records, keys, offsets or shards, depending on the action."""
    at_ms: int = 0
    """Unix ms by the store's clock; set when the entry is read."""


def add_command(prefix: str, entry: AuditEntry) -> tuple[str | bytes | int, ...]:
    """The Redis command that adds an entry and removes the oldest ones beyond MAX_ENTRIES."""
    parameters = msgspec.json.encode(entry.parameters)
    if len(parameters) > MAX_PARAMETERS:
        parameters = msgspec.json.encode({"cut": parameters[:MAX_PARAMETERS].decode(errors="ignore")})
    limit = ("MAXLEN", "~", MAX_ENTRIES)
    values = ("action", entry.action, "actor", entry.actor, "parameters", parameters, "number", entry.number)
    return ("XADD", keys.audit(prefix), *limit, "*", *values)


def read_command(prefix: str, most: int) -> tuple[str | int, ...]:
    """The Redis command that returns the newest `most` entries, newest first."""
    return ("XREVRANGE", keys.audit(prefix), "+", "-", "COUNT", most)


def parse_entry(entry_id: str, values: Mapping[str, str]) -> AuditEntry:
    at_ms = int(entry_id.partition("-")[0])
    parameters = msgspec.json.decode(values.get("parameters", "{}"))
    return AuditEntry(
        values.get("action", ""), values.get("actor", ""), parameters, int(values.get("number", 0)), at_ms
    )
