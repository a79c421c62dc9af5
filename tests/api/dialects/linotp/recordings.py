"""What a real LinOTP 4.0 wrote into its table, and what it answered at the end of that history.

`rows.jsonl` is its table (columns that it left empty are left out), `events.jsonl` the same history as `otp` events,
`answers.json` its answers to 37 questions, `policies.json` its answers to two administrators under eight sets of access
policies.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "recorded"
COLUMNS: Final = ("id", "timestamp", "event", "realm", "parameter", "count")
EMPTY: Final = {"value": "", "detail": "", "session": "", "description": ""}

REALMS: Final = ("realm2", "linotp_admins", "realm1", "mixed")
"""The realms that were configured; LinOTP answers them in no order."""
NOW: Final = "2026-11-26T12:00:00Z"
"""When the questions were asked: the end of a window without `to` is the day after."""

RECORDING_POLICY: Final = """
[rep]
action = "token_total, token_status=active, token_status=inactive, token_status=assigned, token_status=unassigned, \
token_status=active&assigned, token_status=active&unassigned, token_status=inactive&assigned, \
token_status=inactive&unassigned, token_user_total"
scope = reporting
realm = *
user = *
time = * * * * * *;
client = *
active = True
name = rep
"""


def _lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def rows() -> list[dict[str, Any]]:
    """The table's rows by the names in LinOTP's code."""
    return [dict(zip(COLUMNS, row, strict=True)) | EMPTY for row in _lines("rows.jsonl")]


def table_rows() -> list[dict[str, Any]]:
    """The table's rows by the names of its columns."""
    return [{f"R_{name.upper()}": value for name, value in row.items()} for row in rows()]


def events() -> list[dict[str, Any]]:
    """The history as `otp` events. States of one request have one time, so it is their event's id."""
    return [event | {"event_id": event["time"]} for event in _lines("events.jsonl")]


def answers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    return found


def policies() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "policies.json").read_text(encoding="utf-8"))
    return found


EVENT_TIMES: Final = sorted({event["time"][:-1].replace("T", " ") for event in _lines("events.jsonl")})


def with_event_time(row: dict[str, Any]) -> dict[str, Any]:
    """LinOTP writes each row of an event at its own microsecond, milliseconds after the event."""
    return row | {"timestamp": EVENT_TIMES[bisect_right(EVENT_TIMES, row["timestamp"]) - 1]}
