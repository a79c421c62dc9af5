"""The users of an access policy, matched as LinOTP matches them (linotp/lib/policy/evaluate.py, filter.py).

A policy lists conditions: `ada`, `a*` or another regular expression, `ada@realm`, `*@realm`, `*`. A condition that
begins with `-` or `!` denies, wherever it is in the list. Names are compared with their case, realms without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

DENIALS: Final = ("-", "!")


class Match(IntEnum):
    """How precisely a policy names a user. If policies of several kinds match, only the most precise kind applies."""

    NONE = 0
    WILDCARD = 1
    PATTERN = 2
    EXACT = 3


def check_condition(condition: str) -> str | None:
    """The reason why a condition cannot be enforced here; None if it can."""
    condition = _without_denial(condition)[1]
    if "#" in condition:
        return "compares attributes of LinOTP's users, which are not known here"
    if ":" in condition:
        return "names a resolver of LinOTP, which is not known here"
    try:
        for part in condition.rpartition("@")[::2]:
            re.compile(_pattern(part))
    except re.error as error:
        return f"is not a regular expression: {error}"
    return None


def match_user(conditions: Sequence[str], subject: str) -> Match:
    """How the conditions match a token's subject, `name` or `name@realm`."""
    name, at, realm = subject.rpartition("@") if "@" in subject else (subject, "", "")
    full_names = {name, f"{name}@{realm}"} if at else {name}
    found = Match.NONE
    for condition in conditions:
        denies, condition = _without_denial(condition)
        if not _matches(condition, name, realm):
            continue
        if denies:
            return Match.NONE
        if condition in full_names:
            found = Match.EXACT
        elif condition == "*":
            found = max(found, Match.WILDCARD)
        else:
            found = max(found, Match.PATTERN)
    return found


def _without_denial(condition: str) -> tuple[bool, str]:
    return (True, condition[1:]) if condition.startswith(DENIALS) else (False, condition)


def _matches(condition: str, name: str, realm: str) -> bool:
    if "@" in condition:
        condition, _, domain = condition.rpartition("@")
        if not re.match(rf"{domain}\Z", realm, re.IGNORECASE):
            return False
    return condition == "*" or re.match(_pattern(condition), name) is not None


def _pattern(condition: str) -> str:
    """`a*` is LinOTP's short form of `a.*`. The end is the text's: `$` would also match before a final newline."""
    return condition.replace("*", ".*").replace("..*", ".*") + r"\Z"
