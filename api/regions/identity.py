"""The identity of a region, and the reasons for which two regions cannot answer together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from api.ledger.status import PipelineStatus, shown
from api.regions.wire import LAYOUT, Identity, Moment
from api.settings.settings import ApiSettings
from schemas.ledger import fields

SETTINGS: Final = (
    "timezone",
    "user_scope",
    "user_id_normalize",
    "sketches",
    "exact_up_to",
    "active_on",
    "users_by",
    "counts_by",
    "labels_on",
    "max_labels",
    "retain_days",
    "retain_months",
    "topics",
)
"""Recorded settings of a shard that are exported. USER_HASH_KEY's fingerprint is not one of them."""
HASH_KEY: Final = "hash_key"
KEY_CONSTANT: Final = b"authtally region: equal hash keys"

Refusal = Literal[
    "layout",
    "name",
    "no_ledger_id",
    "same_ledger",
    "repeated_ledger",
    "region_users",
    "time_zone",
    "user_scope",
    "accuracy",
    "exact_up_to",
    "hash_key",
    "user_id_normalize",
]
EQUAL: Final[Sequence[tuple[Refusal, str, bool]]] = (
    ("time_zone", "timezone", False),
    ("user_scope", "user_scope", False),
    ("accuracy", "sketches", False),
    ("exact_up_to", "exact_up_to", False),
    ("hash_key", HASH_KEY, True),
    ("user_id_normalize", "user_id_normalize", True),
)
"""Refusals for settings that differ: name, setting, and whether it matters only where users are shared."""


class Refused(NamedTuple):
    """Why a peer's figures are not used. `detail` is for operators: it names the setting and both values."""

    refusal: Refusal
    detail: str


def identity_of(status: PipelineStatus, ledger: str, settings: ApiSettings) -> Identity:
    """The identity of the own region."""
    values = {name: status.setting_values(name) for name in SETTINGS}
    # A list itself, so not split into its items.
    values["sketches"] = _values(shard.meta.get("sketches") for shard in status.shards)
    values[HASH_KEY] = _values(
        key_fingerprint(shard.meta["user_hash_key"]) for shard in status.shards if "user_hash_key" in shard.meta
    )
    return Identity(
        layout=LAYOUT,
        region=settings.region,
        ledger=ledger,
        as_of=Moment(newest_event=shown(status.newest_event_ms), lag=status.lag),
        region_users=settings.region_users or "distinct",
        min_users=settings.region_min_users,
        settings=values,
        positions={shard.keys.shard.tag: shard.position for shard in status.shards},
    )


def key_fingerprint(stored: str) -> str:
    """For comparing hash keys over a border: from the stored fingerprint, of which it reveals nothing."""
    return hashlib.blake2b(KEY_CONSTANT, key=stored.encode()[:64], digest_size=16).hexdigest()


def refusal(peer: str, other: Identity, own: Identity, ledgers: Sequence[tuple[str, str]]) -> Refused | None:
    """Why the peer is refused; None if both can answer together.

    `ledgers` are the names and ledger ids of the peers that stand before this one in PEERS_FILE.
    """
    if other.layout != LAYOUT:
        return Refused("layout", f"its exports have layout {other.layout}, and this api reads {LAYOUT}")
    if other.region != peer:
        return Refused("name", f"its REGION is {other.region or 'not set'}, and PEERS_FILE calls it {peer}")
    if not other.ledger or not own.ledger:
        whose = "its ledger" if not other.ledger else "the own ledger"
        return Refused("no_ledger_id", f"{whose} has no id: no worker of this version has counted into it")
    if other.ledger == own.ledger:
        return Refused("same_ledger", "its ledger is the own one, or a copy of it")
    for name, ledger in ledgers:
        if ledger == other.ledger:
            return Refused("repeated_ledger", f"its ledger is also that of peer {name}, or a copy of it")
    if other.region_users != own.region_users:
        return Refused("region_users", f"REGION_USERS is {other.region_users} there and {own.region_users} here")
    for name_of, setting, only_shared in EQUAL:
        if only_shared and own.region_users != "shared":
            continue
        theirs, ours = other.settings.get(setting, []), own.settings.get(setting, [])
        # A ledger without shards has no users yet.
        if theirs and ours and theirs != ours:
            if setting == HASH_KEY:
                return Refused(name_of, "USER_HASH_KEY differs, so that equal users would count twice")
            return Refused(name_of, f"{setting.upper()} is {','.join(theirs)} there and {','.join(ours)} here")
    return None


def exported_meta(meta: Mapping[str, str]) -> dict[str, str]:
    """The fields of a shard's meta that leave the region."""
    names = {*SETTINGS, *(fields.since(name) for name in SETTINGS), fields.UNEXPECTED_ALLOWED}
    return {name: value for name, value in meta.items() if name in names}


def _values(found: Iterable[str | None]) -> list[str]:
    return sorted({value for value in found if value})
