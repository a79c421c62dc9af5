"""Lifecycle and retention over the world of `merged_model.py`: one chain, one mode, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.lifecycle import cohort_rows, lifecycle_rows
from api.ledger.lifecycle_figures import cohort_figures, figure
from api.ledger.lifecycle_unions import Cohort, CohortRow, LifecycleRow, Pair, Row
from api.settings.settings import ApiSettings
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from tests.api.ledger.merged_model import DAYS, MONTHS, REALM, Act, MergedModel, acts

PARTS: Final = 4
BASE: Final = [[DAYS[0]]]
PERIODS: Final = [[DAYS[1]], [MONTHS[0].key], [*DAYS, MONTHS[1].key], [DAYS[0]]]
"""Any periods will do: each is compared with all before it."""
AGES: Final = 2


class LifecycleModel(MergedModel):
    """The invariant of the parent compares readers with and without merged periods."""

    async def answers(self, statistics: LedgerStatistics) -> list[Any]:
        found: list[Any] = []
        for scopes in ([EVERYTHING], [REALM]):
            held = await statistics.find_periods([*DAYS, *(month.key for month in MONTHS)])
            base, periods = ([held.distinct_query(keys, scopes) for keys in of] for of in (BASE, PERIODS))
            found.append(await lifecycle_rows(statistics.distinct, PARTS, base, periods))
            found.append(await cohort_rows(statistics.distinct, PARTS, None, periods, AGES))
            found.append(await cohort_rows(statistics.distinct, PARTS, base, periods, AGES))
        for rows in found:
            for row in rows:
                check(row)
        return found

    @rule(reader=st.sampled_from(range(3)), plan=st.lists(st.lists(acts, max_size=2), min_size=1, max_size=40))
    def reader_reads_while_things_happen(self, reader: int, plan: list[list[Act]]) -> None:
        """The answer may be of any moment, and an emptied store ends the question; no figure contradicts another."""
        self.interrupted.plan = list(plan)
        try:
            self.run(self.answers(self.readers[reader]))
        except TimeoutError:
            pass
        finally:
            self.interrupted.plan = []

    def check(self) -> None:
        super().check()
        if self.world is not None:
            self.run(self.compare_with_single_unions())

    async def compare_with_single_unions(self) -> None:
        """Every size equals that of the same union, asked alone: exact ones in members, others in sketches."""
        of = read(ApiSettings, auth=("none",), redis_url=self.url, users_by=("realm",), exact_up_to=0)
        single = {0: self.plain, PARTS: LedgerStatistics(self.client, of)}
        lifecycle, active, new = (await self.answers(self.plain))[:3]
        before = [*BASE[0], *PERIODS[0]]
        for number, row in enumerate(lifecycle, start=1):
            previous, current = PERIODS[number - 1], PERIODS[number]
            pairs = (previous, current, [*previous, *current])
            for pair in (row.pair, row.row.pair):
                assert list(pair[1:]) == [await self.size(single[pair.parts], keys) for keys in pairs]
            unions = (before, [*before, *current])
            assert [row.row.before, row.row.after] == [
                await self.size(single[row.row.pair.parts], keys) for keys in unions
            ]
            before = [*before, *current]
        for rows, base in ((active, []), (new, BASE[0])):
            earlier = list(base)
            for number, row in enumerate(rows):
                await self.compare_cohort(single, row, earlier, number)
                if base:
                    earlier += PERIODS[number]

    async def compare_cohort(
        self, single: dict[int, LedgerStatistics], row: CohortRow, base: list[str], number: int
    ) -> None:
        first = PERIODS[number]
        if row.users.parts == 0 and not row.users.first:
            assert await self.size(self.plain, first) == 0
            return
        for age, cell in enumerate(row.ages, start=1):
            later = PERIODS[number + age]
            unions = (base, [*base, *first], [*base, *later], [*base, *first, *later])
            assert list(cell[1:5]) == [await self.size(single[cell.parts], keys) for keys in unions]

    async def size(self, statistics: LedgerStatistics, keys: Sequence[str]) -> int:
        """Of a union, in as many parts as the chain."""
        held = await statistics.find_periods(keys)
        (users,) = await statistics.distinct.count([held.distinct_query(keys, [EVERYTHING])._replace(parts=PARTS)])
        return users.count


def check(found: LifecycleRow | CohortRow) -> None:
    if isinstance(found, LifecycleRow):
        check_pair(found.pair)
        check_row(found.row)
        assert not (found.pair.parts and not found.row.pair.parts), "a part is estimated, and the whole is exact"
    else:
        for cohort in (found.users, *found.ages):
            check_cohort(cohort)


def check_pair(pair: Pair) -> None:
    assert pair.parts in (0, PARTS)
    assert max(pair.previous, pair.current) <= pair.together
    assert pair.returning + pair.lapsed == pair.previous
    for found in (figure([pair.returning_estimate()]), figure([pair.lapsed_estimate()])):
        assert found.exact or pair.parts
        assert found.value is None or 0 <= found.value <= pair.previous


def check_row(row: Row) -> None:
    check_pair(row.pair)
    assert row.new >= 0
    assert row.new + row.pair.returning + row.reactivated == row.pair.current
    for found in (figure([row.new_estimate()]), figure([row.reactivated_estimate()])):
        assert found.exact or row.pair.parts
        assert found.value is None or 0 <= found.value <= row.pair.current
        assert (found.value is None) != (found.fewer_than is None)
    if not row.pair.parts:
        assert row.reactivated == figure([row.reactivated_estimate()]).value


def check_cohort(cohort: Cohort) -> None:
    assert cohort.base <= min(cohort.first, cohort.later)
    assert max(cohort.first, cohort.later) <= cohort.together
    users, ((retained, rate),) = cohort_figures([CohortRow(cohort, [cohort])])
    assert (users.exact and retained.exact) or cohort.parts or cohort.nobody_later
    assert rate.value is None or 0 <= rate.value <= 1
    if users.value and retained.value is not None:
        assert rate.value is not None
