"""What the ledger says: the only reads of it. One pipeline a step, three steps at most a question.

Users of a scope lie per shard either in 16 small sets of integers or in k sketches, never in both for long: the
worker's script moves them from the sets to the sketches at once. So small sets are always read *before* sketches
are looked at; whoever moves in between is then seen twice, which a union forgives, and never not at all.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from api.faults import Forbidden
from api.metrics import ACCESS_REFUSALS
from api.redis_client import Client, Command
from schemas import accuracy, fields, keys
from schemas.keys import SMALL_PARTS, TEMPORARY_MS, Shard, ShardKeys, temporary
from schemas.periods import Month
from schemas.scopes import EVERYTHING, Scope
from schemas.settings import CommonSettings

TOKEN: Final = fields.split(fields.token("", ""))[0]
"""How a counts field begins that counts tokens; grant type and token type follow."""

ARGUMENTS: Final = 4_000
"""Most arguments of one PFADD: Redis serves nobody else meanwhile."""


@dataclass(frozen=True, slots=True)
class ActiveUsers:
    """`standard_error` is relative, 0.002 for 0.2 %; 0 when the users were counted one by one."""

    count: int
    standard_error: float


class MonthFigures(NamedTuple):
    """`tokens` by grant type, then token type."""

    month: Month
    active: ActiveUsers
    tokens: dict[str, dict[str, int]]


class _Question(NamedTuple):
    """The users of the union of `scopes` in `period`; all of one kind, so that they have the same k."""

    period: str
    scopes: tuple[Scope, ...]
    parts: int


def _scopes(realms: Collection[str] | None) -> tuple[Scope, ...]:
    """Everything, or what a bearer limited to realms sees as everything."""
    return (EVERYTHING,) if realms is None else tuple(Scope("realm", (realm,)) for realm in sorted(realms))


class Statistics:
    """Answers from a ledger. Every method raises one of redis_client.UNREACHABLE when Redis does not answer."""

    def __init__(self, client: Client, settings: CommonSettings, clock: Callable[[], float]) -> None:
        self._client = client
        self._prefix = settings.key_prefix
        self._exact_up_to = settings.exact_up_to
        self._cluster = settings.redis_cluster
        self._by_realm = "realm" in settings.users_by and "realm" in settings.counts_by
        self._clock = clock

    async def months(self, months: Sequence[Month], realms: Collection[str] | None = None) -> list[MonthFigures]:
        """Figures of those `months` that the ledger holds, in their order.

        With `realms`, a month in which none of them has a figure is left out too: that others have one is not
        theirs to know. Raises Forbidden where realms are not told apart.
        """
        if realms is not None and not self._by_realm:
            ACCESS_REFUSALS.labels("realms").inc()
            raise Forbidden("Figures by realm are not kept here (USERS_BY, COUNTS_BY), and this bearer sees no others.")
        shards = await self._shards()
        held = await self._held(shards, months)
        scopes = _scopes(realms)
        if not held or not scopes:
            return []
        periods = [month.key for month in held]
        tokens = await self._tokens(shards, periods, scopes)
        users = await self._users(shards, [_Question(p, scopes, accuracy.sketches(p, scopes[0])) for p in periods])
        figures = [MonthFigures(*row) for row in zip(held, users, tokens, strict=True)]
        return [row for row in figures if realms is None or row.active.count or row.tokens]

    async def active_users(self, period: str, scope: Scope) -> ActiveUsers:
        """Distinct active users of a month (`2026-11`) or day (`2026-11-20`); 0 where nothing is held."""
        shards = await self._shards()
        return (await self._users(shards, [_Question(period, (scope,), accuracy.sketches(period, scope))]))[0]

    async def _shards(self) -> list[ShardKeys]:
        (tags,) = await self._client.run([("SMEMBERS", keys.shards(self._prefix))])
        return [ShardKeys(self._prefix, Shard.parse(tag.decode())) for tag in sorted(tags)]

    async def _held(self, shards: Sequence[ShardKeys], months: Sequence[Month]) -> list[Month]:
        periods = [month.key for month in months]
        if not periods:
            return []
        replies = await self._client.run([("ZMSCORE", shard.index, *periods) for shard in shards])
        # The score is when the period expires; its keys are gone then though the index may still name it.
        now = self._clock()
        return [
            month
            for place, month in enumerate(months)
            if any(scores[place] is not None and float(scores[place]) > now for scores in replies)
        ]

    async def _tokens(
        self, shards: Sequence[ShardKeys], periods: Sequence[str], scopes: Sequence[Scope]
    ) -> list[dict[str, dict[str, int]]]:
        hashes = [[shard.counts(period, scope) for shard in shards for scope in scopes] for period in periods]
        replies = iter(await self._client.run([("HGETALL", key) for group in hashes for key in group]))
        answers = []
        for group in hashes:
            grants: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
            for _ in group:
                for field, count in next(replies).items():
                    kind, *words = fields.split(field.decode())
                    if kind == TOKEN:
                        grant, token_type = words
                        grants[grant][token_type] += int(count)
            answers.append({grant: dict(sorted(tokens.items())) for grant, tokens in sorted(grants.items())})
        return answers

    async def _users(self, shards: Sequence[ShardKeys], questions: Sequence[_Question]) -> list[ActiveUsers]:
        if not shards:
            return [ActiveUsers(0, 0.0) for _ in questions]
        groups = [[shard] for shard in shards] if self._cluster else [list(shards)]
        small: list[Command] = []
        sketched: list[Command] = []
        for question in questions:
            for part in range(question.parts):
                small.extend(("SUNION", *_small(group, question, part)) for group in groups)
            sketched.extend(
                ("EXISTS", *(key for part in range(question.parts) for key in _sketches(group, question, part)))
                for group in groups
            )
        replies = await self._client.run(small + sketched)
        members, exists = iter(replies[: len(small)]), iter(replies[len(small) :])
        answers = []
        estimated: list[tuple[int, list[set[bytes]]]] = []
        for place, question in enumerate(questions):
            parts = [set[bytes]().union(*(next(members) for _ in groups)) for _ in range(question.parts)]
            few = sum(map(len, parts))
            answers.append(ActiveUsers(few, 0.0))
            # A list: every group's reply has to be taken, whatever the first one says.
            if any([next(exists) for _ in groups]) or few > self._exact_up_to:  # noqa: C419
                estimated.append((place, parts))
        if not estimated:
            return answers
        count = self._count_in_cluster if self._cluster else self._count
        estimates = await count(shards, [(questions[place], parts) for place, parts in estimated])
        for (place, _), estimate in zip(estimated, estimates, strict=True):
            question = questions[place]
            error = accuracy.standard_error(question.period, question.scopes[0])
            answers[place] = ActiveUsers(estimate, error)
        return answers

    async def _count(
        self, shards: Sequence[ShardKeys], asked: Sequence[tuple[_Question, list[set[bytes]]]]
    ) -> list[int]:
        """One estimate a question: PFCOUNT over all keys of a part, small members added for the while."""
        nonce = secrets.token_hex(8)
        commands: list[Command] = []
        counted: list[tuple[int, int]] = []
        for place, (question, parts) in enumerate(asked):
            for part, members in enumerate(parts):
                sketches = _sketches(shards, question, part)
                key = temporary(self._prefix, nonce, f"{place}.{part}")
                commands.extend(_add(key, members))
                counted.append((place, len(commands)))
                commands.append(("PFCOUNT", *sketches, *([key] if members else [])))
                if members:
                    commands.append(("UNLINK", key))
        replies = await self._client.run(commands)
        estimates = [0] * len(asked)
        for place, reply in counted:
            estimates[place] += replies[reply]
        return estimates

    async def _count_in_cluster(
        self, shards: Sequence[ShardKeys], asked: Sequence[tuple[_Question, list[set[bytes]]]]
    ) -> list[int]:
        """The same where PFCOUNT cannot reach over slots: sketches are carried as they are to one slot.

        One part at a time, so that a question never holds more than 12 KB a shard and scope there.
        """
        nonce = secrets.token_hex(8)
        estimates = []
        for question, parts in asked:
            estimate = 0
            for part, members in enumerate(parts):
                raw = await self._client.run([("GET", key) for key in _sketches(shards, question, part)])
                copies = [sketch for sketch in raw if sketch is not None]
                names = [temporary(self._prefix, nonce, str(number)) for number in range(len(copies) + 1)]
                commands: list[Command] = [
                    ("SET", name, copy, "PX", TEMPORARY_MS) for name, copy in zip(names[1:], copies, strict=True)
                ]
                commands.extend(_add(names[0], members))
                commands.append(("PFCOUNT", *names))
                counted = len(commands) - 1
                commands.extend(("UNLINK", name) for name in names)
                estimate += (await self._client.run(commands))[counted]
            estimates.append(estimate)
        return estimates


def _small(shards: Iterable[ShardKeys], question: _Question, part: int) -> list[str]:
    """The small sets whose members belong to sketch `part`: a set's own part modulo k."""
    return [
        shard.small(question.period, scope, piece)
        for shard in shards
        for scope in question.scopes
        for piece in range(part, SMALL_PARTS, question.parts)
    ]


def _sketches(shards: Iterable[ShardKeys], question: _Question, part: int) -> list[str]:
    return [shard.users(question.period, scope, part) for shard in shards for scope in question.scopes]


def _add(key: str, members: Collection[bytes]) -> Iterable[Command]:
    if not members:
        return
    # Made empty and given its lifetime before it grows: a connection cut in between leaves some thirty bytes.
    yield ("PFADD", key)
    yield ("PEXPIRE", key, TEMPORARY_MS)
    ordered = list(members)
    for start in range(0, len(ordered), ARGUMENTS):
        yield ("PFADD", key, *ordered[start : start + ARGUMENTS])
