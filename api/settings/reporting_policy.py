"""Reporting policies: which token counts are recorded in which realms, and who may ask for what.

The file is LinOTP's export of policies: sections of `name = value`, whose values may be quoted and then go over
several lines. Of its scopes `reporting` and `reporting.access` count here, the others are LinOTP's own concern.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.settings.watched_file import content_of
from schemas.ledger.inventory import KEPT, TOTAL_USERS, canonical

EVERYTHING: Final = ("*",)

RECORDING: Final = "reporting"
ACCESS: Final = ("reporting.access", "reporting_access")
"""The second is how LinOTP's document calls the first in its text."""
ACTIONS: Final = ("show", "period", "maximum", "delete_all", "delete_before")

ALWAYS: Final = re.compile(r"\*( \*){0,5};?")
"""A `time` that never ends: `* * * * * *;`."""


@dataclass(frozen=True)
class Recording:
    """What is recorded in some realms: the statuses as the policy writes them. `realms` None is all of them."""

    realms: frozenset[str] | None
    statuses: tuple[str, ...]

    def covers(self, realm: str) -> bool:
        return self.realms is None or realm.lower() in self.realms


@dataclass(frozen=True)
class Access:
    """Who may do what on which realms; None is everybody, everything, all."""

    users: frozenset[str] | None
    actions: frozenset[str] | None
    realms: frozenset[str] | None

    def allows(self, subject: str, action: str) -> bool:
        return (self.users is None or subject in self.users) and (self.actions is None or action in self.actions)


@dataclass(frozen=True)
class Policies:
    """The active policies of a file."""

    recording: tuple[Recording, ...] = ()
    access: tuple[Access, ...] = ()

    def realms(self, subject: str, action: str) -> Allowed | None:
        """On which realms the subject may do it; None where no policy lets it. Without any policy everybody may."""
        if not self.access:
            return Allowed(None)
        matching = [policy for policy in self.access if policy.allows(subject, action)]
        if not matching:
            return None
        realms: set[str] = set()
        for policy in matching:
            if policy.realms is None:
                return Allowed(None)
            realms |= policy.realms
        return Allowed(frozenset(realms))


@dataclass(frozen=True)
class Allowed:
    """Realms in lower case; None is all."""

    realms: frozenset[str] | None


EVERY_STATUS: Final = Recording(None, KEPT)
"""What is recorded where no file says otherwise."""


def read(path: Path) -> Policies:
    """Raises ValueError with a sentence that tells what is wrong with the file, and where in it."""
    return decoded(path, content_of(path))


def decoded(path: Path, content: bytes) -> Policies:
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(text: str) -> Policies:
    """The policies of a file's text. Raises ValueError that names the line or the policy."""
    recording, access = [], []
    for name, given in _sections(text):
        policy = _Policy(name, given)
        if policy.scope == RECORDING:
            recorded = Recording(policy.realms, policy.statuses)
            if policy.active:
                recording.append(recorded)
        elif policy.scope in ACCESS:
            allowed = Access(policy.users, policy.actions, policy.realms)
            if policy.active:
                access.append(allowed)
        elif policy.scope.startswith(RECORDING):
            # A misspelt one would count as none, and none lets everybody in.
            raise policy.wrong("scope", f"{policy.scope!r} is neither {RECORDING} nor {ACCESS[0]}")
    return Policies(tuple(recording), tuple(access))


class _Policy:
    """One section, read attribute by attribute."""

    def __init__(self, name: str, given: Mapping[str, str]) -> None:
        self._name = name
        self._given = given
        self.scope = self._needed("scope").lower()
        if self.scope.startswith(RECORDING):
            self._refuse_unenforced()

    def wrong(self, attribute: str, sentence: str) -> ValueError:
        return ValueError(f"policy [{self._name}], {attribute}: {sentence}")

    @property
    def active(self) -> bool:
        value = self._given.get("active", "True").lower()
        if value not in ("true", "false"):
            raise self.wrong("active", "is neither True nor False")
        return value == "true"

    @property
    def realms(self) -> frozenset[str] | None:
        return self._all_or(_listed(self._needed("realm").lower()))

    @property
    def users(self) -> frozenset[str] | None:
        return self._all_or(_listed(self._given.get("user", "*")) or EVERYTHING)

    @property
    def actions(self) -> frozenset[str] | None:
        actions = _listed(self._needed("action"))
        for action in actions:
            if action not in (*ACTIONS, *EVERYTHING):
                raise self.wrong("action", f"{action[:64]!r} is none of {', '.join(ACTIONS)}, *")
        return self._all_or(actions)

    @property
    def statuses(self) -> tuple[str, ...]:
        found: dict[str, str] = {}
        for action in _listed(self._needed("action")):
            for status in self._statuses(action):
                found.setdefault(canonical(status) or "", status)
        return tuple(found.values())

    def _statuses(self, action: str) -> Collection[str]:
        if action in EVERYTHING:
            return KEPT
        if action == "token_total":
            return ("total",)
        if action == "token_user_total":
            return (TOTAL_USERS,)
        name, equals, status = action.partition("=")
        if name.strip() != "token_status" or not equals:
            raise self.wrong("action", f"{action[:64]!r} is none of token_total, token_status=…, token_user_total, *")
        status = status.strip().lower()
        if canonical(status) is None:
            raise self.wrong("action", f"token_status: {status[:64]!r} is none of {', '.join(KEPT)}")
        return (status,)

    def _needed(self, attribute: str) -> str:
        value = self._given.get(attribute, "")
        if not _listed(value):
            raise self.wrong(attribute, "is missing")
        return value

    @staticmethod
    def _all_or(items: Collection[str]) -> frozenset[str] | None:
        return None if "*" in items else frozenset(items)

    def _refuse_unenforced(self) -> None:
        """A limit that nobody enforces would be believed."""
        for attribute, value in self._given.items():
            if attribute in ("name", "realm", "scope", "action", "active"):
                continue
            if attribute == "user" and self.scope in ACCESS:
                continue
            if value in ("", "*") or (attribute == "time" and ALWAYS.fullmatch(value)):
                continue
            raise self.wrong(attribute, f"is not enforced here, so only * is taken, not {value[:64]!r}")


def _listed(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _sections(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and attributes of each section."""
    name: str | None = None
    given: dict[str, str] = {}
    seen: set[str] = set()
    lines = iter(enumerate(text.removeprefix("\ufeff").splitlines(), 1))
    for number, line in lines:
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            if name is not None:
                yield name, given
            if not (header := re.fullmatch(r"\[([^\[\]]+)\]", line)):
                raise ValueError(f"line {number} is no section: [name]")
            name, given = header[1].strip(), {}
            if name in seen:
                raise ValueError(f"line {number}: a policy [{name}] stands before")
            seen.add(name)
            continue
        attribute, equals, value = line.partition("=")
        attribute = attribute.strip().lower()
        if not equals or not attribute:
            raise ValueError(f"line {number} is neither [name] nor attribute = value")
        if name is None:
            raise ValueError(f"line {number} stands before the first [name]")
        if attribute in given:
            raise ValueError(f"line {number}: policy [{name}] has {attribute} before")
        given[attribute] = _unquoted(value.strip(), number, lines)
    if name is not None:
        yield name, given


def _unquoted(value: str, number: int, lines: Iterator[tuple[int, str]]) -> str:
    """A value without its quotes, and with the lines up to the closing one."""
    if value[:1] not in ('"', "'"):
        return value
    quote, told = value[0], value[1:]
    while quote not in told:
        following = next(lines, None)
        if following is None:
            raise ValueError(f"line {number}: the quote is never closed")
        told = f"{told} {following[1].strip()}"
    told, _, rest = told.partition(quote)
    if rest.strip():
        raise ValueError(f"line {number}: {rest.strip()[:64]!r} follows the closing quote")
    return told.strip()
