"""The site that the demo plays: its topics, realms, clients and users, and how busy it is on each day and hour."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

from schemas.ledger.periods import Month

LOGINS: Final = "auth.logins"
TOKENS: Final = "auth.tokens"
ACCOUNTS: Final = "auth.accounts"
OTP_TOKENS: Final = "auth.otp-tokens"
KEYCLOAK: Final = "keycloak.events"
DEAD_LETTERS: Final = "auth.dead-letter"
TOPICS: Final = {LOGINS: 4, TOKENS: 4, ACCOUNTS: 4, OTP_TOKENS: 1, KEYCLOAK: 1, DEAD_LETTERS: 1}
"""Partitions of each topic."""

WHOLE_MONTHS: Final = 14
"""Months before the current one: the last 30 days and the current month have a counterpart a year before."""

REALMS_AT_FIRST: Final = {"acme": 0.5, "globex": 0.16, "initech": 0.2, "umbrella": 0.1, "hooli": 0.04}
REALMS_AT_LAST: Final = {"acme": 0.38, "globex": 0.32, "initech": 0.12, "umbrella": 0.12, "hooli": 0.06}
"""Shares of the first and of the last users that joined. Realms grow at different speed."""
CLIENTS: Final = {"web": 0.5, "mobile": 0.3, "admin-console": 0.05, "partner-api": 0.15}
NODES: Final = {"auth-1": 0.4, "auth-2": 0.35, "auth-3": 0.25}
FAILURES: Final = {"invalid_credentials": 0.7, "mfa_failed": 0.15, "locked": 0.1, "user_disabled": 0.05}
FAILED_SHARE: Final = 0.08
KINDS: Final = {"signup": 0.7, "client_registered": 0.05, "client_updated": 0.15, "leaked_password": 0.1}
SERVICES: Final = {"billing-sync": 0.5, "crm-export": 0.3, "nightly-report": 0.2}
"""Clients that use the grant client_credentials."""
QUOTA_USE: Final = {"billing-sync": 1.6, "crm-export": 0.9, "nightly-report": 0.4}
"""Tokens of the last whole month as a share of each service's monthly quota: one exceeds it every month."""

GRANTS: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "authorization_code": (0.45, ("access_token", "id_token", "refresh_token")),
    "refresh_token": (0.3, ("access_token", "refresh_token")),
    "client_credentials": (0.15, ("access_token",)),
    "password": (0.04, ("access_token", "refresh_token")),
    "urn:ietf:params:oauth:grant-type:device_code": (0.04, ("access_token", "refresh_token")),
    "urn:ietf:params:oauth:grant-type:uma-ticket": (0.02, ("uma_token",)),
}
"""Share of each grant, and the tokens of one token answer."""

GROWTH_PER_MONTH: Final = 1.04
WEEKDAYS: Final = (1.0, 1.06, 1.04, 1.0, 0.9, 0.34, 0.28)
"""Relative load from Monday to Sunday."""
SEASONS: Final = (1.0, 1.02, 1.03, 0.98, 1.0, 0.97, 0.86, 0.78, 1.02, 1.06, 1.05, 0.82)
"""Relative load from January to December."""
HOURS: Final = (1, 1, 1, 1, 1, 2, 4, 7, 10, 11, 10, 9, 8, 9, 10, 10, 9, 7, 5, 4, 4, 3, 2, 1)
"""Relative load of each hour of a day, UTC."""

ATTACK_SHARE: Final = 0.006
"""Share of all events that belong to the one incident, a password attack on one realm."""
ATTACKED_REALM: Final = "initech"
ATTACK_HOURS: Final = (9, 12)


def first_month(until: datetime) -> Month:
    return Month.of(until).plus(-WHOLE_MONTHS)


def busy_hours(until: datetime) -> Iterator[tuple[datetime, float]]:
    """The start and the weight of each hour from the first month to `until`; the last hour may be cut."""
    start = first_month(until).span.first
    day, number = start, 0
    while day <= until.date():
        load = _load(day, number)
        for hour, weight in enumerate(HOURS):
            begins = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
            if begins >= until:
                return
            yield begins, load * weight * min(1.0, (until - begins) / timedelta(hours=1))
        day, number = day + timedelta(days=1), number + 1


def events_per_second(count: int, until: datetime) -> float:
    """The rate at the hour of `until` in a sample of `count` events."""
    weights = list(busy_hours(until))
    now = _load(until.date(), (until.date() - weights[0][0].date()).days) * HOURS[until.hour]
    return count * now / sum(weight for _, weight in weights) / 3600


def attack_hours(until: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the incident: the morning of the last Tuesday that is over."""
    day = until.date() - timedelta(days=(until.weekday() - 1) % 7 or 7)
    begin, end = (datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for hour in ATTACK_HOURS)
    return begin, end


def _load(day: date, number: int) -> float:
    # Two waves without a common period look like chance, and give the same day the same load in each run.
    noise = 1 + 0.05 * math.sin(number * 1.7) + 0.04 * math.sin(number * 0.61)
    growth: float = GROWTH_PER_MONTH ** (number / 30.4)
    return growth * WEEKDAYS[day.weekday()] * SEASONS[day.month - 1] * noise
