"""Queries the apis during a run: no answer may be wrong or hang, and a 503 needs an unreachable store."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.integration.api_process import ApiProcess
from tests.integration.publishing import DAYS_AGO
from tests.qualification.chaos.ledger import Ledger

EVERY_S: Final = 0.1
HANGS_S: Final = 5.0
"""An answer later than this has hung: an api gives up on a store after 2 s, and this machine is shared."""
SETTLES_S: Final = 3.0
"""How long after a store is whole again an api may still look for it."""
FRESH: Final = range(100, 10_000)


class Prober:
    """One question that stays the same, so that a cache answers it, and one that is new each time."""

    def __init__(self, settings: dict[str, str], apis: int, ledger: Ledger) -> None:
        given = {name: settings[name] for name in ("redis_url", "redis_cluster")}
        self.apis = [ApiProcess(auth="none", log_level="warning", **given) for _ in range(apis)]
        self._ledger = ledger
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest_s = 0.0
        self._away = 0
        self._away_until = 0.0
        self._most: dict[int, int] = {}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, cached), daemon=True)
            for number in range(apis)
            for cached in (True, False)
        ]

    def start(self) -> None:
        for api in self.apis:
            api.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for api in self.apis:
            api.close()

    # Written by the nemesis.

    def store_goes(self) -> None:
        """The store may refuse, and lose its last writes, from now on."""
        self._away += 1

    def store_is_back(self) -> None:
        self._away -= 1
        self._away_until = time.monotonic() + SETTLES_S

    # What is found out.

    def _may_refuse(self, asked: float) -> bool:
        return self._away > 0 or asked < self._away_until

    def _run(self, number: int, cached: bool) -> None:
        today = datetime.now(UTC).date()
        window = f"from={today - timedelta(days=max(DAYS_AGO))}&to={today}"
        fresh = iter(FRESH)
        while not self._ended.wait(EVERY_S):
            limit = FRESH.stop if cached else next(fresh, None)
            if limit is None:
                fresh = iter(FRESH)
                continue
            self._ask(number, f"/v1/logins?granularity=month&{window}&group_by=reason&limit={limit}", cached)

    def _ask(self, number: int, path: str, cached: bool) -> None:
        asked = time.monotonic()
        might = self._may_refuse(asked)
        name = "cached" if cached else "fresh"
        try:
            reply = self.apis[number].get(path)
        except OSError as error:
            self.wrong.append(f"{name}: no answer: {error}")
            return
        took = time.monotonic() - asked
        self.slowest_s = max(self.slowest_s, took)
        if took > HANGS_S:
            self.wrong.append(f"{name}: answered after {took:.1f} s")
        might = might or self._may_refuse(asked)
        if reply.status == 200:
            self._judge(number, name, reply.json, cached, might)
        elif reply.status == 503:
            self.outcomes[f"{name} 503 while the store {'is away' if might else 'is there'}"] += 1
        else:
            self.wrong.append(f"{name}: {reply.status} {reply.text[:100]}")

    def _judge(self, number: int, name: str, answer: Any, cached: bool, might: bool) -> None:
        self.outcomes[f"{name} 200"] += 1
        value = sum(row.get("logins", 0) + row.get("failed", 0) for row in answer["items"])
        if value > self._ledger.sent:
            self.wrong.append(f"{name}: answers {value} logins, {self._ledger.sent} events were sent")
        if cached:
            return
        if might:
            # A store that lost its last writes answers less until they are counted again.
            self._most[number] = 0
        elif value < self._most.get(number, 0):
            self.wrong.append(f"{name}: answers {value} logins after {self._most[number]}")
        self._most[number] = max(value, self._most.get(number, 0))
