"""Imported months in the ledger: read, and replaced in one step that also checks what is there."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.operations import shards_held
from deploy.cli.past_months import PastMonth, month_of
from schemas.ledger import fields, keys
from schemas.ledger.keys import ShardKeys
from schemas.ledger.periods import Month

REPLACE: Final = """
local replace, months = ARGV[1] == '1', tonumber(ARGV[2])
local wanted, stale, there, counted = {}, {}, {}, {}
for i = 3, 2 + months do wanted[ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local month = string.match(field, '^[^/]*')
  if wanted[month] then
    stale[#stale + 1] = field
    if wanted[month] ~= 'seen' then wanted[month] = 'seen'; there[#there + 1] = month end
  end
end
if #KEYS > 1 then
  if redis.call('SCARD', KEYS[2]) ~= #KEYS - 2 then return false end
  local now = tonumber(redis.call('TIME')[1])
  for i = 3, 2 + months do
    for k = 3, #KEYS do
      -- Not ZSCORE: the operator's user needs no further right for this one.
      local expires = redis.call('ZMSCORE', KEYS[k], ARGV[i])[1]
      if expires and (expires == 'inf' or tonumber(expires) > now) then counted[#counted + 1] = ARGV[i]; break end
    end
  end
end
if #counted > 0 or (#there > 0 and not replace) then return {there, counted} end
for i = 1, #stale, 1000 do redis.call('HDEL', KEYS[1], unpack(stale, i, math.min(i + 999, #stale))) end
for i = 3 + months, #ARGV, 1000 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return {there, counted}
"""
"""Replaces months in one step, or changes nothing if a month is imported (without permission) or was counted.

KEYS: the imported figures; to check what was counted also the set of shards, and the index of every shard. ARGV: `1`
to replace or `0`; number of months; the months; fields and values. Returns the imported and the counted months; false
if there are other shards than the given ones.
"""

Parts = dict[tuple[str, ...], str]
"""An imported month's values by the parts of their fields."""


class Held(NamedTuple):
    """The months in the ledger: imported ones with their fields, and counted ones."""

    imported: dict[Month, Parts]
    counted: frozenset[Month]


class Outcome(NamedTuple):
    """What a replacement found, by the months' names. With counted months nothing was changed."""

    imported: list[str]
    counted: list[str]


async def read_held(client: Client, settings: WorkerSettings, counted: Iterable[Month] | None) -> Held:
    """All imported months, and the months of `counted` (None: of the imported ones) that the ledger counted itself."""
    imported: dict[Month, Parts] = {}
    found = await cast(Any, client.hgetall(keys.imported(settings.key_prefix)))
    for field, value in found.items():
        month, *names = fields.split(field)
        imported.setdefault(month_of(month), {})[tuple(names)] = value
    asked = sorted(set(imported if counted is None else counted))
    own: set[Month] = set()
    for shard in await shards_held(client, settings) if asked else ():
        index = ShardKeys(settings.key_prefix, shard).index
        scores = await client.zmscore(index, [month.key for month in asked])
        # The score is the period's expiry. After it the keys are gone, though the index may still name the period.
        own |= {month for month, at in zip(asked, scores, strict=True) if at is not None and at > time.time()}
    return Held(imported, frozenset(own))


async def replace_months(
    client: Client,
    settings: WorkerSettings,
    figures: Mapping[Month, Parts],
    *,
    remove: Collection[Month] = (),
    replace: bool,
    instead: bool,
) -> Outcome:
    """Write `figures` and remove the months of `remove`, all of them or none.

    None if a month is imported, unless `replace`, or was counted, unless `instead`. In a Cluster, where no script reads
    the keys of several shards, the months are written, checked again, and put back if a worker counted one meanwhile.
    """
    write = _Write(client, settings, figures, remove, replace)
    if instead:
        return await write.unchecked()
    if not settings.redis_cluster:
        return await write.checked()
    before = await read_held(client, settings, figures)
    if before.counted:
        return Outcome([], sorted(month.key for month in before.counted))
    outcome = await write.unchecked()
    if outcome.imported and not replace:
        return outcome
    counted = (await read_held(client, settings, figures)).counted
    if counted:
        kept = {month: before.imported[month] for month in figures if month in before.imported}
        await _Write(client, settings, kept, figures, replace=True).unchecked()
    return Outcome(outcome.imported, sorted(month.key for month in counted))


class _Write:
    """One replacement, as the arguments of the script."""

    def __init__(
        self,
        client: Client,
        settings: WorkerSettings,
        figures: Mapping[Month, Parts],
        remove: Collection[Month],
        replace: bool,
    ) -> None:
        self._client = client
        self._settings = settings
        names = dict.fromkeys(month.key for month in (*figures, *remove))
        self._arguments = ["1" if replace else "0", str(len(names)), *names]
        for month, parts in figures.items():
            for field, value in parts.items():
                self._arguments += [fields.imported(month.key, *field), value]

    async def unchecked(self) -> Outcome:
        return Outcome(*await self._run(()))

    async def checked(self) -> Outcome:
        """Changes nothing if a month was counted."""
        prefix = self._settings.key_prefix
        while True:
            # Repeated only if a worker registered another shard between these two requests.
            shards = sorted(await shards_held(self._client, self._settings))
            indices = [ShardKeys(prefix, shard).index for shard in shards]
            found = await self._run([keys.shards(prefix), *indices])
            if found is not None:
                return Outcome(*found)

    async def _run(self, checked: Sequence[str]) -> Any:
        given = [keys.imported(self._settings.key_prefix), *checked]
        return await cast(Any, self._client.eval(REPLACE, len(given), *given, *self._arguments))


def parts_of(row: PastMonth, source: str) -> Parts:
    return {
        (fields.ACTIVE,): str(row.active),
        (fields.SOURCE,): source,
        **{names: str(count) for names, count in row.counts.items()},
    }
