"""Sample states of hardware tokens, in the order of their times."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from deploy.demo import site
from deploy.demo.sample_events import SEED, Sample
from schemas.events import OtpTokenState

OTP_EVENTS: Final = ("token_init", "token_assign", "token_unassign", "token_disable", "token_enable", "token_remove")


def otp_tokens(until: datetime, count: int = 2_000) -> Iterator[Sample]:
    """`count` states from the sample's first month to `until`, the same in each call. Few tokens are removed."""
    chance = random.Random(SEED)  # noqa: S311
    realms, number = list(site.REALMS_AT_FIRST), 0
    held: dict[str, OtpTokenState] = {}
    first = site.first_month(until).span.first
    begin = datetime(first.year, first.month, 1, 8, tzinfo=UTC)
    step = (until - begin) / count
    for place in range(count):
        time = begin + step * place
        if not held or chance.random() < 0.35:
            number += 1
            # Some tokens are in no realm yet; a few are in two.
            token_realms = tuple(sorted(chance.sample(realms, chance.choices((0, 1, 2), (1, 17, 2))[0])))
            serial = f"OATH{number:08X}"
            state = OtpTokenState(time, serial, OTP_EVENTS[0], token_realms, active=True, assigned=False)
        else:
            last = held.pop(chance.choice(sorted(held)))
            state = _next_state(chance, last, time)
        if not state.deleted:
            held[state.serial] = state
        time_ms = int(time.timestamp() * 1000)
        yield Sample(site.OTP_TOKENS, state.serial.encode(), msgspec.json.encode(state), time_ms)


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
