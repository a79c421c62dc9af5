"""The result of `authtally publish --dry-run`: users and events by kind per month, in bounded memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Final

from hyperloglog import HyperLogLog

from deploy.cli.publish.run import PublishSettings
from schemas.events import AccountEvent, Event, Login, TokenIssued
from schemas.ledger.periods import Month
from schemas.user_ids import NORMALIZERS

EXACT: Final = 4096
"""Users of a month that are kept one by one (260 KB), as in the ledger; more go into a sketch of 64 KB."""
ERROR: Final = 0.00408
"""The package's smallest standard error: 2^16 registers give 1.04/256 = 0.41 %."""

KINDS: Final = ("logins", "failed_logins", "activity_only", "token_answers", "tokens", "account_events", "otp_events")


class Users:
    """Distinct users, exact up to EXACT."""

    def __init__(self) -> None:
        self._exact: set[int] = set()
        self._sketch: Any = None

    def add(self, digest: int) -> None:
        self._exact.add(digest)
        if len(self._exact) > EXACT:
            self._to_sketch()

    def _to_sketch(self) -> None:
        if self._sketch is None:
            self._sketch = HyperLogLog(ERROR)
        self._sketch.add_bulk(self._exact)
        self._exact.clear()

    @property
    def exact(self) -> bool:
        return self._sketch is None

    def count(self) -> int:
        if self._sketch is None:
            return len(self._exact)
        if self._exact:
            self._to_sketch()
        users: int = round(self._sketch.card())
        return users


class DryRun:
    """Counts events by month. The number of months is bounded, because no event is from before 2000."""

    def __init__(self, settings: PublishSettings) -> None:
        self._zone = settings.zone
        self._by_realm = settings.user_scope == "realm"
        self._normalized = NORMALIZERS[settings.user_id_normalize]
        self._active_on = frozenset(settings.active_on)
        self._users: dict[Month, Users] = {}
        self._kinds: dict[Month, Counter[str]] = {}

    def add(self, event: Event) -> None:
        month = Month.of(event.time.astimezone(self._zone))
        kinds = self._kinds.setdefault(month, Counter())
        active = False
        if isinstance(event, Login):
            active = event.success and "login" in self._active_on
            kinds["failed_logins" if not event.success else "logins" if event.counted else "activity_only"] += 1
        elif isinstance(event, TokenIssued):
            active = event.grant_type == "refresh_token" and "refresh" in self._active_on
            kinds["token_answers"] += 1
            kinds["tokens"] += len(event.tokens)
        else:
            kinds["account_events" if isinstance(event, AccountEvent) else "otp_events"] += 1
        if active and isinstance(event, (Login, TokenIssued)) and event.user_id:
            user_id = self._normalized(event.user_id)
            name = f"{event.realm or ''}\0{user_id}" if self._by_realm else user_id
            digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
            self._users.setdefault(month, Users()).add(int.from_bytes(digest, "big"))

    def months(self) -> dict[str, dict[str, Any]]:
        """Per month (`2026-11`): `active_users`, `exact`, `standard_error` unless exact, and a number per kind."""
        found: dict[str, dict[str, Any]] = {}
        for month in sorted(self._kinds):
            users = self._users.get(month, Users())
            result: dict[str, Any] = {"active_users": users.count(), "exact": users.exact}
            if not users.exact:
                result["standard_error"] = ERROR
            found[month.key] = result | {kind: self._kinds[month][kind] for kind in KINDS}
        return found
