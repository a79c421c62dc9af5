"""Sample events of more than a year up to a given instant, and the exact counts that the api must return for them.

The same count and instant always give the same events, so answers in the documentation stay true. A record's timestamp
is the event's time, as if it was published when it happened.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from deploy.demo import site
from schemas.events import MAX_ID_BYTES
from schemas.ledger.periods import Month

EVENTS_PER_USER: Final = 30
ZIPF: Final = 0.5
SEED: Final = 20_260_501
TRAVELLERS: Final = 4
"""One user of this many of a second region is a user of the first too."""
USERS_AT_FIRST: Final = 0.45
"""Share of all users that had joined when the sample begins."""
TRIAL_SHARE: Final = 0.3
"""Share of the users that join during the sample and leave soon."""
TRIAL_DAYS: Final = 12.0
STAY_DAYS: Final = 700.0
"""Mean days from joining to leaving: of the users that leave soon, and of all others."""
DAILY: Final = {"signup": "signups", "leaked_password": "leaked_passwords"}
"""Their names in Auth0's daily statistics."""


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
    service_tokens: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(month, realm, client) to tokens of the grant client_credentials."""
    days: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Day (`2026-05-01`) to its logins, sign-ups and reports of leaked passwords, under Auth0's names."""
    realm_logins: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Day to its successful logins per realm."""
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
        for (counted_month, grant, token), count in sorted(self.tokens.items()):
            if counted_month == month:
                found.setdefault(grant, {})[token] = count
        return found

    def count_login(self, user: str, realm: str, time: datetime) -> None:
        day = f"{time:%Y-%m-%d}"
        self.count_active(user, time)
        self.days[day]["logins"] += 1
        self.realm_logins[day][realm] += 1

    def count_active(self, user: str, time: datetime) -> None:
        self.users.setdefault(Month.of(time).compact, set()).add(user)


class _Drawn:
    """Draws random names by their shares."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._names = list(shares)
        self._shares = list(itertools.accumulate(shares.values()))

    def one(self, random_: random.Random) -> str:
        return random_.choices(self._names, cum_weights=self._shares)[0]


class SampleEvents:
    """An iterator over `count` records up to `until`; `expected` grows with it. Memory holds one hour at a time.

    `abroad` names a second region: a quarter of its users have the names of users of the first.
    """

    def __init__(self, count: int, until: datetime, abroad: str = "") -> None:
        self.count, self.until, self._abroad = count, until, abroad
        first = site.first_month(until).span.first
        self._first = datetime(first.year, first.month, first.day, tzinfo=UTC)
        self.expected = Expected()
        self._random = random.Random(SEED)  # noqa: S311
        self._client, self._node = _Drawn(site.CLIENTS), _Drawn(site.NODES)
        self._failure, self._kind, self._service = _Drawn(site.FAILURES), _Drawn(site.KINDS), _Drawn(site.SERVICES)
        self._grant = _Drawn({grant: share for grant, (share, _) in site.GRANTS.items()})
        self._users = self._join(max(500, count // EVENTS_PER_USER))
        ranks = list(range(1, len(self._users) + 1))
        self._random.shuffle(ranks)
        self._popularity = list(itertools.accumulate(rank**-ZIPF for rank in ranks))
        self._leaves = [self._leave(number) for number in range(len(self._users))]
        self._joined = self._joined_by(self._first)

    def _join(self, people: int) -> list[str]:
        """User names in the order in which they joined."""
        first, last = site.REALMS_AT_FIRST, site.REALMS_AT_LAST
        names = []
        for number in range(people):
            late = number / people
            shares = {realm: share * (1 - late) + last[realm] * late for realm, share in first.items()}
            prefix = self._abroad if number % TRAVELLERS else ""
            names.append(f"{_Drawn(shares).one(self._random)}/{prefix}u{number:06}")
        return names

    def _leave(self, number: int) -> datetime:
        """The instant from which the user with this number has no more events."""
        late = (number / len(self._users) - USERS_AT_FIRST) / (1 - USERS_AT_FIRST)
        joins = self._first + (self.until - self._first) * max(0.0, late)
        trial = late > 0 and self._random.random() < TRIAL_SHARE
        return joins + timedelta(days=self._random.expovariate(1 / (TRIAL_DAYS if trial else STAY_DAYS)))

    def _joined_by(self, time: datetime) -> int:
        elapsed = (time - self._first) / (self.until - self._first)
        return int(len(self._users) * (USERS_AT_FIRST + (1 - USERS_AT_FIRST) * elapsed))

    def __iter__(self) -> Iterator[Sample]:
        bad = malformed(self.until)
        hours = list(site.busy_hours(self.until))
        total_weight = sum(weight for _, weight in hours)
        attack = round(self.count * site.ATTACK_SHARE)
        ordinary = self.count - len(bad) - attack
        every, weight_so_far, published = ordinary // len(bad), 0.0, 0
        attack_begin, attack_end = site.attack_hours(self.until)
        attack_left, attack_hours = attack, (attack_end - attack_begin) // timedelta(hours=1)
        for begins, weight in hours:
            # Cumulative, so that rounding errors do not add up.
            weight_so_far += weight
            number = round(ordinary * weight_so_far / total_weight) - published
            events = [(time, user, False) for time, user in self._draw(begins, number)]
            if attack_begin <= begins < attack_end:
                number_bad = attack_left // attack_hours
                attack_left, attack_hours = attack_left - number_bad, attack_hours - 1
                events += [(time, user, True) for time, user in self._draw_attack(begins, number_bad)]
                events.sort(key=lambda event: event[0])
            for time, user, is_attack in events:
                self.expected.records += 1
                yield self._attack(time, user) if is_attack else self._event(time, user)
                published += not is_attack
                if bad and not is_attack and published % every == every // 2:
                    yield self._spoilt(*bad.pop(), time)
        while bad:
            yield self._spoilt(*bad.pop(), self.until)

    def live(self, time: datetime) -> Sample:
        """One more ordinary event, at `time`."""
        self.expected.records += 1
        return self._event(time, self._draw_users(time, 1)[0])

    def _draw(self, begins: datetime, count: int) -> list[tuple[datetime, str]]:
        """Instants of one hour, in order, each with a user of then; new ones come first."""
        joined = self._users[self._joined : self._joined_by(begins)][:count]
        self._joined += len(joined)
        users = joined + self._draw_users(begins, count - len(joined))
        return list(zip(self._times(begins, count), users, strict=True))

    def _draw_users(self, time: datetime, count: int) -> list[str]:
        """Users that have joined and have not left, by their popularity."""
        everybody, popularity = range(self._joined), self._popularity[: self._joined]
        users: list[str] = []
        while len(users) < count:
            drawn = self._random.choices(everybody, cum_weights=popularity, k=count - len(users))
            users += (self._users[number] for number in drawn if self._leaves[number] > time)
        return users

    def _times(self, begins: datetime, count: int) -> list[datetime]:
        span_ms = max(1, min(3_600_000, int((self.until - begins) / timedelta(milliseconds=1))))
        return sorted(begins + timedelta(milliseconds=self._random.randrange(span_ms)) for _ in range(count))

    def _draw_attack(self, begins: datetime, count: int) -> Iterator[tuple[datetime, str]]:
        victims = [user for user in self._users if user.startswith(f"{site.ATTACKED_REALM}/")]
        for time in self._times(begins, count):
            yield time, self._random.choice(victims)

    def _attack(self, time: datetime, user: str) -> Sample:
        reason = "locked" if self._random.random() < 0.15 else "invalid_credentials"
        event = self._base(time, user) | {"client_id": "web", "node": "auth-1", "success": False, "reason": reason}
        return self._sample(site.LOGINS, event, user, time)

    def _base(self, time: datetime, user: str) -> dict[str, Any]:
        instant = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"time": instant, "user_id": user, "realm": user.partition("/")[0]}

    def _event(self, time: datetime, user: str) -> Sample:
        kind = self._random.random()
        event = self._base(time, user) | {"client_id": self._client.one(self._random)}
        if kind < 0.5:
            return self._token(event, time)
        if kind < 0.96:
            return self._login(event, time)
        event["kind"] = self._kind.one(self._random)
        self.expected.days[f"{time:%Y-%m-%d}"][DAILY.get(event["kind"], "")] += 1
        return self._sample(site.ACCOUNTS, event, user, time)

    def _login(self, event: dict[str, Any], time: datetime) -> Sample:
        event["node"] = self._node.one(self._random)
        if self._random.random() < site.FAILED_SHARE:
            event |= {"success": False, "reason": self._failure.one(self._random)}
        else:
            self.expected.count_login(event["user_id"], event["realm"], time)
        return self._sample(site.LOGINS, event, event["user_id"], time)

    def _token(self, event: dict[str, Any], time: datetime) -> Sample:
        grant = self._grant.one(self._random)
        tokens = site.GRANTS[grant][1]
        key, month = event["user_id"], Month.of(time).compact
        event |= {"grant_type": grant, "tokens": tokens, "node": self._node.one(self._random)}
        if grant == "client_credentials":
            del event["user_id"]
            key = event["client_id"] = self._service.one(self._random)
            self.expected.service_tokens[month, event["realm"], key] += 1
        elif grant == "refresh_token":
            self.expected.count_active(key, time)
        for token in tokens:
            self.expected.tokens[month, grant, token] += 1
        return self._sample(site.TOKENS, event, key, time)

    def _spoilt(self, reason: str, topic: str, value: bytes | None, time: datetime) -> Sample:
        self.expected.records += 1
        self.expected.dead[reason] += 1
        return Sample(topic, b"spoilt", value, _ms(time))

    def _sample(self, topic: str, event: dict[str, Any], key: str, time: datetime) -> Sample:
        return Sample(topic, key.encode(), orjson.dumps(event), _ms(time))


def malformed(until: datetime) -> list[tuple[str, str, bytes | None]]:
    """Reason, topic and value of records from which no event can be decoded, one or two per reason."""
    instant = (until - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    time = b'"time":"%s"' % instant
    return [
        ("empty_value", site.LOGINS, None),
        ("not_json", site.LOGINS, b"<login user='someone'/>"),
        ("not_json", site.TOKENS, b'{%s,"grant_ty' % time),
        ("not_an_object", site.ACCOUNTS, b"[]"),
        ("missing_field", site.LOGINS, b"{%s}" % time),
        ("missing_field", site.TOKENS, b'{%s,"grant_type":"password"}' % time),
        ("wrong_type", site.LOGINS, b'{%s,"user_id":12345}' % time),
        ("wrong_type", site.LOGINS, b'{"time":"yesterday","user_id":"someone"}'),
        ("too_long", site.LOGINS, b'{%s,"user_id":"%s"}' % (time, b"x" * (MAX_ID_BYTES + 1))),
        ("impossible_time", site.LOGINS, b'{"time":"2099-01-01T00:00:00Z","user_id":"someone"}'),
        ("impossible_time", site.ACCOUNTS, b'{"time":"1970-01-01T00:00:00Z","kind":"signup"}'),
    ]


def _ms(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1000)
