"""Writes an OTP inventory as the worker does, and policy files as LinOTP's administrators do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aggregator.ledger.ledger import Applied
from schemas.ledger.keys import Shard
from tests.aggregator.inventories import SHARD, Inventories, state
from tests.aggregator.logs import record
from tests.api.conftest import Answer, Api

LATE_MS = 4_000_000_000_000
"""Records' timestamps: late enough for each event."""
COUNTS = Shard("linotp.reporting", 0)
REPORT = Shard("linotp.report", 0)
TOPICS = {"auth.otp-tokens": "otp", "linotp.reporting": "otp-count", "linotp.report": "linotp-report"}

Event = Mapping[str, object]

__all__ = ["COUNTS", "SHARD", "Event", "given", "policy", "rows", "state", "value", "write"]


def given(time: str, realm: str, status: str, count: int, event: str = "token_init") -> Event:
    """A row that the product counted itself."""
    return {"time": time, "realm": realm, "status": status, "count": count, "event": event}


async def write(redis_url: str, events: Sequence[Event], shard: Shard = SHARD, **settings: Any) -> None:
    """Count events; a second call continues where the first one ended."""
    async with Inventories(redis_url, shard, topics=TOPICS, **settings) as counter:
        start = await counter.resume()
        records = [record(start + number, event, LATE_MS) for number, event in enumerate(events)]
        assert isinstance(await counter.count(records, start, start + len(records)), Applied)


def policy(scope: str, action: str, realm: str = "*", **rest: str) -> str:
    """One section of a policy file."""
    attributes = {"realm": realm, "action": action, "scope": scope} | rest
    name = rest.get("name", f"{scope} {realm} {action}"[:60].replace("\n", " "))
    return "\n".join([f"[{name}]", *(f"{attribute} = {text}" for attribute, text in attributes.items())]) + "\n"


def written(folder: Path, *policies: str) -> Path:
    path = folder / "policies.ini"
    path.write_text("\n".join(policies))
    return path


def value(answer: Answer) -> Any:
    """What a successful answer says."""
    assert answer.status == 200, answer.text
    assert answer.json["result"]["status"] is True, answer.text
    return answer.json["result"]["value"]


async def rows(api: Api, query: str = "") -> list[dict[str, Any]]:
    """The rows that `show` returns, in the documented shape."""
    found = value(await api.get(f"/reporting/show?{query}"))
    assert found["resultset"]["report_rows"] >= len(found["data"])
    data: list[dict[str, Any]] = found["data"]
    return data
