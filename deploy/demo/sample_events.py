"""Sample events like half a year of a real deployment, and the exact counts that the api must return for them.

The same count always gives the same events in the same months, so answers in the documentation stay true. A record's
timestamp is the event's time, as if it was published when it happened.
"""

from __future__ import annotations

import calendar
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from schemas.events import MAX_ID_BYTES, OtpTokenState
from schemas.ledger.periods import Month

LOGINS: Final = "auth.logins"
TOKENS: Final = "auth.tokens"
ACCOUNTS: Final = "auth.accounts"
OTP_TOKENS: Final = "auth.otp-tokens"
KEYCLOAK: Final = "keycloak.events"
DEAD_LETTERS: Final = "auth.dead-letter"
TOPICS: Final = {LOGINS: 4, TOKENS: 4, ACCOUNTS: 4, OTP_TOKENS: 1, KEYCLOAK: 1, DEAD_LETTERS: 1}
"""Partitions of each topic."""

MONTHS: Final = Month(2026, 5).until(Month(2026, 10))
GROWTH: Final = 1.08
"""Factor between the numbers of events of two successive months."""

ZIPF: Final = 1.1
EVENTS_PER_USER: Final = 20
SEED: Final = 20_260_501

REALMS: Final = {"acme": 0.45, "globex": 0.25, "initech": 0.15, "umbrella": 0.1, "hooli": 0.05}
CLIENTS: Final = {"web": 0.5, "mobile": 0.3, "admin-console": 0.05, "partner-api": 0.15}
NODES: Final = {"auth-1": 0.4, "auth-2": 0.35, "auth-3": 0.25}
FAILURES: Final = {"invalid_credentials": 0.7, "mfa_failed": 0.15, "locked": 0.1, "user_disabled": 0.05}
FAILED_SHARE: Final = 0.08
KINDS: Final = {"signup": 0.7, "client_registered": 0.05, "client_updated": 0.15, "leaked_password": 0.1}
DAILY: Final = {"signup": "signups", "leaked_password": "leaked_passwords"}
"""Their names in Auth0's daily statistics."""
SERVICES: Final = ("billing-sync", "crm-export", "nightly-report")
"""Clients that use the grant client_credentials."""

GRANTS: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "authorization_code": (0.45, ("access_token", "id_token", "refresh_token")),
    "refresh_token": (0.3, ("access_token", "refresh_token")),
    "client_credentials": (0.15, ("access_token",)),
    "password": (0.04, ("access_token", "refresh_token")),
    "urn:ietf:params:oauth:grant-type:device_code": (0.04, ("access_token", "refresh_token")),
    "urn:ietf:params:oauth:grant-type:uma-ticket": (0.02, ("uma_token",)),
}
"""Share of each grant, and the tokens of one token answer."""

HOURS: Final = (1, 1, 1, 1, 1, 2, 4, 7, 10, 11, 10, 9, 8, 9, 10, 10, 9, 7, 5, 4, 4, 3, 2, 1)
"""Relative load of each hour of a day."""


class Sample(NamedTuple):
    """One record to publish."""

    topic: str
    key: bytes
    value: bytes | None
    time_ms: int


@dataclass(slots=True)
class Expected:
    """Exact counts of the records yielded so far."""

    users: dict[str, set[str]] = field(default_factory=dict)
    """Month (`202605`) to the users active in it."""
    tokens: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(month, grant type, token type) to tokens issued."""
    days: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Day (`2026-05-01`) to its logins, sign-ups and reports of leaked passwords, under Auth0's names."""
    dead: Counter[str] = field(default_factory=Counter)
    """Reason to records that cannot be counted."""
    records: int = 0

    @property
    def months(self) -> list[str]:
        return sorted(self.users)

    def active(self, month: str) -> int:
        return len(self.users.get(month, ()))

    def grants(self, month: str) -> dict[str, dict[str, int]]:
        """Grant type to count per token type, without types that were never issued."""
        found: dict[str, dict[str, int]] = {}
        for (of, grant, token), count in sorted(self.tokens.items()):
            if of == month:
                found.setdefault(grant, {})[token] = count
        return found


class _Drawn:
    """Draws random names by their shares."""

    def __init__(self, shares: dict[str, float]) -> None:
        self._names = list(shares)
        self._shares = list(itertools.accumulate(shares.values()))

    def one(self, random_: random.Random) -> str:
        return random_.choices(self._names, cum_weights=self._shares)[0]


class SampleEvents:
    """An iterator over `count` records; `expected` grows while it is read. Memory holds one day at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.expected = Expected()
        self._random = random.Random(SEED)  # noqa: S311
        self._realm, self._client, self._node = _Drawn(REALMS), _Drawn(CLIENTS), _Drawn(NODES)
        self._failure, self._kind = _Drawn(FAILURES), _Drawn(KINDS)
        self._grant = _Drawn({grant: share for grant, (share, _) in GRANTS.items()})
        people = max(500, count // EVENTS_PER_USER)
        self._users = [f"{self._realm.one(self._random)}/u{number:06}" for number in range(people)]
        self._popularity = list(itertools.accumulate(1 / rank**ZIPF for rank in range(1, people + 1)))

    def __iter__(self) -> Iterator[Sample]:
        bad = malformed()
        days = [
            (date(month.year, month.month, day), GROWTH**number / calendar.monthrange(month.year, month.month)[1])
            for number, month in enumerate(MONTHS)
            for day in range(1, calendar.monthrange(month.year, month.month)[1] + 1)
        ]
        total, left, weight_left = self.count - len(bad), self.count - len(bad), sum(weight for _, weight in days)
        spoilt_every = total // len(bad)
        for day, weight in days:
            # The share of the rest, so that rounding errors do not add up.
            today = round(left * weight / weight_left)
            left, weight_left = left - today, weight_left - weight
            for time in self._times(day, today):
                self.expected.records += 1
                yield self._event(time)
                if bad and self.expected.records % spoilt_every == spoilt_every // 2:
                    yield self._spoilt(*bad.pop(), time)
        while bad:
            yield self._spoilt(*bad.pop(), datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC))

    def _times(self, day: date, count: int) -> list[datetime]:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        hours = self._random.choices(range(24), weights=HOURS, k=count)
        return sorted(
            midnight + timedelta(hours=hour, milliseconds=self._random.randrange(3_600_000)) for hour in hours
        )

    def _event(self, time: datetime) -> Sample:
        kind = self._random.random()
        user = self._random.choices(self._users, cum_weights=self._popularity)[0]
        event: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "user_id": user,
            "realm": user.partition("/")[0],
            "client_id": self._client.one(self._random),
        }
        if kind < 0.5:
            return self._token(event, time)
        if kind < 0.96:
            return self._login(event, time)
        event["kind"] = self._kind.one(self._random)
        self.expected.days[f"{time:%Y-%m-%d}"][DAILY.get(event["kind"], "")] += 1
        return self._sample(ACCOUNTS, event, user, time)

    def _login(self, event: dict[str, Any], time: datetime) -> Sample:
        event["node"] = self._node.one(self._random)
        if self._random.random() < FAILED_SHARE:
            event |= {"success": False, "reason": self._failure.one(self._random)}
        else:
            self._active(event["user_id"], time)
            self.expected.days[f"{time:%Y-%m-%d}"]["logins"] += 1
        return self._sample(LOGINS, event, event["user_id"], time)

    def _token(self, event: dict[str, Any], time: datetime) -> Sample:
        grant = self._grant.one(self._random)
        tokens = GRANTS[grant][1]
        key = event["user_id"]
        event |= {"grant_type": grant, "tokens": tokens, "node": self._node.one(self._random)}
        if grant == "client_credentials":
            del event["user_id"]
            key = event["client_id"] = self._random.choice(SERVICES)
        elif grant == "refresh_token":
            self._active(key, time)
        month = Month.of(time).compact
        for token in tokens:
            self.expected.tokens[month, grant, token] += 1
        return self._sample(TOKENS, event, key, time)

    def _active(self, user: str, time: datetime) -> None:
        self.expected.users.setdefault(Month.of(time).compact, set()).add(user)

    def _spoilt(self, reason: str, topic: str, value: bytes | None, time: datetime) -> Sample:
        self.expected.records += 1
        self.expected.dead[reason] += 1
        return Sample(topic, b"spoilt", value, _ms(time))

    def _sample(self, topic: str, event: dict[str, Any], key: str, time: datetime) -> Sample:
        return Sample(topic, key.encode(), orjson.dumps(event), _ms(time))


def malformed() -> list[tuple[str, str, bytes | None]]:
    """Reason, topic and value of records from which no event can be decoded, one or two per reason."""
    time = b'"time":"2026-06-01T12:00:00Z"'
    return [
        ("empty_value", LOGINS, None),
        ("not_json", LOGINS, b"<login user='someone'/>"),
        ("not_json", TOKENS, b'{"time":"2026-06-01T12:00:00Z","grant_ty'),
        ("not_an_object", ACCOUNTS, b"[]"),
        ("missing_field", LOGINS, b"{%s}" % time),
        ("missing_field", TOKENS, b'{%s,"grant_type":"password"}' % time),
        ("wrong_type", LOGINS, b'{%s,"user_id":12345}' % time),
        ("wrong_type", LOGINS, b'{"time":"yesterday","user_id":"someone"}'),
        ("too_long", LOGINS, b'{%s,"user_id":"%s"}' % (time, b"x" * (MAX_ID_BYTES + 1))),
        ("impossible_time", LOGINS, b'{"time":"2099-01-01T00:00:00Z","user_id":"someone"}'),
        ("impossible_time", ACCOUNTS, b'{"time":"1970-01-01T00:00:00Z","kind":"signup"}'),
    ]


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


OTP_EVENTS: Final = ("token_init", "token_assign", "token_unassign", "token_disable", "token_enable", "token_remove")


def otp_tokens(count: int = 2_000) -> Iterator[Sample]:
    """`count` states of hardware tokens over MONTHS, ordered by time, the same in each call. Few tokens are removed."""
    chance = random.Random(SEED)  # noqa: S311
    realms, number = list(REALMS), 0
    held: dict[str, OtpTokenState] = {}
    begin = datetime(MONTHS[0].year, MONTHS[0].month, 1, 8, tzinfo=UTC)
    after = MONTHS[-1].plus(1)
    step = (datetime(after.year, after.month, 1, tzinfo=UTC) - begin) / count
    for place in range(count):
        time = begin + step * place
        if not held or chance.random() < 0.35:
            number += 1
            # Some tokens are in no realm yet; a few are in two.
            of = tuple(sorted(chance.sample(realms, chance.choices((0, 1, 2), (1, 17, 2))[0])))
            serial = f"OATH{number:08X}"
            state = OtpTokenState(time, serial, OTP_EVENTS[0], of, active=True, assigned=False)
        else:
            last = held.pop(chance.choice(sorted(held)))
            state = _next_state(chance, last, time)
        if not state.deleted:
            held[state.serial] = state
        yield Sample(OTP_TOKENS, state.serial.encode(), msgspec.json.encode(state), _ms(time))


def _next_state(chance: random.Random, last: OtpTokenState, time: datetime) -> OtpTokenState:
    _, assign, unassign, disable, enable, remove = OTP_EVENTS
    if chance.random() < 0.04:
        return msgspec.structs.replace(last, time=time, event=remove, active=False, assigned=False, deleted=True)
    if not last.assigned and last.realms:
        user = f"{last.realms[0]}/u{chance.randrange(300):06}"
        return msgspec.structs.replace(last, time=time, event=assign, assigned=True, user_id=user)
    if last.assigned and chance.random() < 0.2:
        return msgspec.structs.replace(last, time=time, event=unassign, assigned=False, user_id=None)
    return msgspec.structs.replace(last, time=time, event=disable if last.active else enable, active=not last.active)
