"""`authtally realm remove`: remove a realm's figures, labels and OTP inventory from the ledger.

Safe while workers run: each step raises the shard's number of removals, so that a worker whose memory contains the
realm is refused and loads the shard again. Positions stay. A repeated run removes what an interrupted one left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import click
from redis.asyncio import RedisCluster

from aggregator.inventory.state import realm_bytes
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.json_output import print_json
from deploy.cli.operations import confirmed, shards_held, show_table
from deploy.cli.snapshot import with_connection
from deploy.cli.snapshot.redis_connections import RedisConnection, connect_to, is_same_node, names
from deploy.cli.terminal import echo
from schemas.ledger import changes, fields
from schemas.ledger.inventory import pack_token, unpack_token
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import OTHER, Scope

AT_ONCE: Final = 20_000
"""Keys removed by one script: about 20 ms of the store's time."""
SCAN_COUNT: Final = 1_000
TRIES: Final = 20
"""A running worker moves an inventory between reading it and the script; some tries succeed."""
MOVED: Final = -1

REMOVE: Final = """
local have = redis.call('GET', KEYS[1]) or ''
if ARGV[1] ~= '' and have ~= ARGV[1] then return -1 end
local keys = 11 + tonumber(ARGV[6])
for hour = 11, keys - 1 do redis.call('HDEL', KEYS[hour], ARGV[5]) end
for from = keys, #KEYS, 3900 do redis.call('UNLINK', unpack(KEYS, from, math.min(from + 3899, #KEYS))) end
local commands = {
  {'SREM', 3}, {'HDEL', 9}, {'HDEL', 4}, {'HDEL', 5}, {'HDEL', 6}, {'HSET', 7}, {'HDEL', 7}, {'HDEL', 8}
}
local at = 7
for _, command in ipairs(commands) do
  local last = at + tonumber(ARGV[at])
  for from = at + 1, last, 3900 do
    redis.call(command[1], KEYS[command[2]], unpack(ARGV, from, math.min(from + 3899, last)))
  end
  at = last + 1
end
local time = redis.call('TIME')
local clock = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', (redis.call('HGET', KEYS[2], ARGV[2]) or 0) + 1))
redis.call('HSET', KEYS[2], ARGV[3], (have == '' and '0' or have) .. ' ' .. clock)
redis.call('HSET', KEYS[10], 'epoch', ARGV[4])
return #KEYS - keys + 1
"""
"""Removes keys, and fields and members of other keys, and counts the removal in meta.

ARGV[4] becomes the epoch in KEYS[10]. KEYS[3] to KEYS[9] have the members; of the next ARGV[6] keys, the realms of
hours of ids, the field ARGV[5] is removed; the keys after those are removed. ARGV[7…] are eight lists of members, each
after its length. Writes nothing and returns -1 if ARGV[1] is not empty and not the shard's position.
"""


@dataclass
class Removal:
    """What one shard has of a realm."""

    shard: Shard
    realm: str
    unfit: str = ""
    """The reason for which nothing was read."""
    position: str = ""
    """The position for which the plan holds; empty if it holds at any."""
    groups: list[list[str]] = field(default_factory=list)
    """Keys by period and scope; the script must remove those of one group together."""
    labels: list[str] = field(default_factory=list)
    """The realm, its clients and its words."""
    shares: list[str] = field(default_factory=list)
    """Fields of the shares hash."""
    id_realms: list[str] = field(default_factory=list)
    """Keys of hours whose ids contain some of the realm's."""
    number: int | None = None
    """The realm's number in the OTP inventory."""
    tokens: dict[bytes, bytes] = field(default_factory=dict)
    """OTP tokens that are in other realms too, with their new states by serial."""
    dropped: list[bytes] = field(default_factory=list)
    """Serials of OTP tokens that are in no other realm."""
    holders: list[bytes] = field(default_factory=list)

    @property
    def keys(self) -> int:
        return sum(map(len, self.groups))

    @property
    def empty(self) -> bool:
        return not (self.groups or self.labels or self.shares or self.id_realms or self.number is not None)

    def as_document(self) -> dict[str, Any]:
        return {
            "topic": self.shard.topic,
            "partition": self.shard.partition,
            "unfit": self.unfit or None,
            "keys": self.keys,
            "labels": len(self.labels),
            "otp_tokens": len(self.tokens) + len(self.dropped),
        }


def remove(settings: WorkerSettings, realm: str, yes: bool, *, as_json: bool) -> None:
    """Print what the ledger has of the realm, and remove it. Raises click.ClickException."""
    if realm == OTHER:
        raise click.BadParameter(f"{OTHER} has the events of realms without figures of their own", param_hint="REALM")

    async def find(client: Client) -> list[Removal]:
        shards = sorted(await shards_held(client, settings))
        found = [await plan(client, ShardKeys(settings.key_prefix, shard), realm) for shard in shards]
        return [each for each in found if each.unfit or not each.empty]

    async def change(client: Client) -> None:
        for each in found:
            if not each.unfit:
                await remove_from(client, ShardKeys(settings.key_prefix, each.shard), realm)

    found = with_connection(settings, find)
    if not as_json:
        _show(realm, found)
        if found:
            echo("\n".join(["What remains:", *remains(settings, realm)]))
    unfit = [each for each in found if each.unfit]
    removes = bool(found) and not unfit and confirmed(yes, "Remove it?", as_json=as_json)
    if removes:
        with_connection(settings, change)
        audit.record(settings, "realm remove", {"realm": realm}, sum(each.keys for each in found))
    if as_json:
        shards = [each.as_document() for each in found]
        print_json({"realm": realm, "shards": shards, "removed": removes, "remains": remains(settings, realm)})
    elif removes:
        echo("Removed.")
    if unfit:
        raise click.ClickException("a shard is being restored; nothing was removed: repeat after the restore")


def remains(settings: WorkerSettings, realm: str) -> list[str]:
    """What a removal leaves."""
    named = ["REALM_NAMES and the meta of shards name the realm: change it, then run `authtally settings adopt`."]
    return [
        "The figures of everything and of nodes keep the realm's part: their counts and sketches cannot be split.",
        "Words of its events in the figures of everything, such as reasons of failures, stay, without the realm.",
        "Imported months, the recordings of reporting policies and the audit log stay.",
        f"Digests of users in those sketches, and of event ids for {settings.dedupe_window_s} s, stay; "
        "only the hash key connects them to users.",
        "The api's caches answer with older figures until these expire: CACHE_TTL_S, JANSSEN_CACHE_TTL_S and "
        "AUTH0_CACHE_TTL_S; while Redis is unreachable CACHE_GRACE_S longer.",
        "Kafka keeps the realm's records and dead letters until their retention ends; a replay counts them again.",
        "Snapshots and backups that were made before contain the realm.",
        *(named if realm in settings.realm_names.values() else ()),
    ]


async def plan(client: Client, shard_keys: ShardKeys, realm: str) -> Removal:
    """Everything that a shard has of a realm. Raises RedisError."""
    found = Removal(shard_keys.shard, realm)
    async with _connected(client, shard_keys) as line:
        position, number = await line.pipe([("GET", shard_keys.position), ("HGET", shard_keys.realms, realm)])
        if position is not None and int(position) == fields.RESTORING:
            found.unfit = "is being restored"
            return found
        labels, shares = await line.pipe([("SMEMBERS", shard_keys.labels), ("HKEYS", shard_keys.shares)])
        found.labels = [member for member in map(bytes.decode, labels) if _is_of(fields.split(member), realm)]
        found.shares = [name for name in map(bytes.decode, shares) if fields.split(name)[-1] == realm]
        if number is not None:
            found.number, found.position = int(number), (position or b"").decode()
            await _plan_tokens(line, shard_keys, found)
        await _plan_keys(line, shard_keys, realm, found)
    return found


def _is_of(label: Sequence[str], realm: str) -> bool:
    """Whether a label is the realm, or a client or word of it. Words of format 1 belong to no realm."""
    dimension, *names = label
    if dimension == "realm":
        return names == [realm]
    return dimension in ("client", *fields.RESERVED) and len(names) == 2 and names[0] == realm


async def _plan_keys(line: RedisConnection, shard_keys: ShardKeys, realm: str, found: Removal) -> None:
    groups: dict[object, list[str]] = {}
    hours: set[str] = set()
    async for some in names(line, shard_keys.base):
        for name in map(bytes.decode, some):
            bucket = shard_keys.scope_of(name)
            if bucket is not None and _is_scope_of(bucket[1], realm):
                groups.setdefault(bucket, []).append(name)
            elif found.number is not None and shard_keys.otp_realm_of(name) == found.number:
                groups.setdefault(found.number, []).append(name)
            elif shard_keys.has_id_realms(name):
                hours.add(name)
    # A key may be scanned twice.
    found.groups = [sorted(set(group)) for group in groups.values()]
    hashes = sorted(hours)
    numbers = await line.pipe([("HGET", name, fields.realm(realm)) for name in hashes])
    found.id_realms = [name for name, number in zip(hashes, numbers, strict=True) if number is not None]


def _is_scope_of(scope: Scope, realm: str) -> bool:
    return scope.dimension in ("realm", "client") and scope.names[0] == realm


async def _plan_tokens(line: RedisConnection, shard_keys: ShardKeys, found: Removal) -> None:
    number = found.number
    assert number is not None
    async for serial, packed in _scan(line, shard_keys.tokens):
        token = unpack_token(packed)
        if number in token.realms:
            others = tuple(other for other in token.realms if other != number)
            if others:
                found.tokens[serial] = pack_token(token._replace(realms=others))
            else:
                found.dropped.append(serial)
    found.dropped = list(dict.fromkeys(found.dropped))
    first = realm_bytes(number)
    found.holders = list({holder async for holder, _ in _scan(line, shard_keys.holders) if holder.startswith(first)})


async def _scan(line: RedisConnection, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
    cursor: Any = b"0"
    while True:
        cursor, flat = await line.call("HSCAN", key, cursor, "COUNT", SCAN_COUNT)
        for pair in zip(flat[::2], flat[1::2], strict=True):
            yield pair
        if cursor == b"0":
            return


async def remove_from(client: Client, shard_keys: ShardKeys, realm: str) -> None:
    """Remove until nothing is left: a running worker may count events of the realm meanwhile."""
    for _ in range(TRIES):
        found = await plan(client, shard_keys, realm)
        if found.empty:
            return
        async with _connected(client, shard_keys) as line:
            for groups, members in _steps(found):
                in_meta = (fields.REMOVALS, fields.since(fields.REMOVALS))
                moved = (found.position, *in_meta, changes.new_token())
                arguments = [*moved, fields.realm(realm), len(found.id_realms), *members]
                changed = [
                    *(shard_keys.labels, shard_keys.realms, shard_keys.totals, shard_keys.reported),
                    *(shard_keys.tokens, shard_keys.holders, shard_keys.shares, shard_keys.changes),
                ]
                keys = [shard_keys.position, shard_keys.meta, *changed, *found.id_realms]
                keys += [key for group in groups for key in group]
                if await line.call("EVAL", REMOVE, len(keys), *keys, *arguments) == MOVED:
                    break
    raise click.ClickException(
        f"{shard_keys.shard.tag} received events of {realm} at each try: stop the realm's events, "
        "or the workers, and repeat"
    )


def _steps(found: Removal) -> Iterator[tuple[list[list[str]], list[Any]]]:
    """The groups of keys and the members for each script; the OTP inventory needs one script for all."""
    number = [] if found.number is None else [found.number]
    states = [part for pair in found.tokens.items() for part in pair]
    lists = (found.labels, found.shares, [found.realm] * len(number), number, number, states, found.dropped)
    members: list[Any] = [part for each in (*lists, found.holders) for part in (len(each), *each)]
    taken: list[list[str]] = []
    for group in found.groups:
        if taken and not number and sum(map(len, taken)) + len(group) > AT_ONCE:
            yield taken, members
            taken, members = [], [0] * (len(lists) + 1)
        taken.append(group)
    yield taken, members


@asynccontextmanager
async def _connected(client: Client, shard_keys: ShardKeys) -> AsyncIterator[RedisConnection]:
    """A connection to the server that has the shard, before and after the block."""
    async with connect_to(client, shard_keys.position) as line:
        if isinstance(client, RedisCluster):
            await is_same_node(line, shard_keys.position)
        yield line
        if isinstance(client, RedisCluster):
            await is_same_node(line, shard_keys.position)


def _show(realm: str, found: list[Removal]) -> None:
    if not found:
        echo(f"The ledger has nothing of the realm {realm!r}.")
        return
    columns = ("topic", "partition", "keys", "labels", "OTP tokens", "")
    rows = [tuple(each.as_document().values()) for each in found]
    show_table(columns, ((topic, partition, *counts, unfit or "") for topic, partition, unfit, *counts in rows))
