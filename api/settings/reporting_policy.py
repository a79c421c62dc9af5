"""Reporting policies: the token counts to record in each realm, and the access rights to them.

The file is LinOTP's export of policies: sections of `name = value`; a quoted value may span several lines. Only the
scopes `reporting` and `reporting.access` are used; LinOTP itself enforces the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.settings.policy_users import DENIALS, Match, check_condition, match_user
from api.settings.watched_file import read_bounded
from schemas.ledger.inventory import COUNTED_STATUSES, TOTAL_USERS, canonical_status

WILDCARD: Final = ("*",)

RECORDING_SCOPE: Final = "reporting"
ACCESS_SCOPES: Final = ("reporting.access", "reporting_access")
"""LinOTP's documentation also uses the second name."""
ACTIONS: Final = ("show", "period", "maximum", "delete_all", "delete_before")

ALWAYS_TIME: Final = re.compile(r"\*( \*){0,5};?")
"""A `time` without a limit: `* * * * * *;`."""


@dataclass(frozen=True)
class RecordingPolicy:
    """The statuses to record in some realms, as the policy writes them. `realms` None means all realms.

    In a realm that a policy names, the policies for all realms do not apply.
    """

    realms: frozenset[str] | None
    statuses: tuple[str, ...]

    def covers(self, realm: str) -> bool:
        return self.realms is None or realm.lower() in self.realms


@dataclass(frozen=True)
class AccessPolicy:
    """Actions that users may perform on realms; None means all actions or realms. `users` are conditions in order."""

    users: tuple[str, ...]
    actions: frozenset[str] | None
    realms: frozenset[str] | None

    def match(self, subject: str, action: str) -> Match:
        if self.actions is not None and action not in self.actions:
            return Match.NONE
        return match_user(self.users, subject)


@dataclass(frozen=True)
class Policies:
    """The active policies of a file."""

    recording: tuple[RecordingPolicy, ...] = ()
    access: tuple[AccessPolicy, ...] = ()

    def allowed_realms(self, subject: str, action: str) -> AllowedRealms | None:
        """The realms on which the subject may perform the action; None if no policy allows it, all if there is none.

        Policies that name the subject win over those whose pattern matches it, and these over `*`.
        """
        if not self.access:
            return AllowedRealms(None)
        matches = [policy.match(subject, action) for policy in self.access]
        best = max(matches)
        if best is Match.NONE:
            return None
        realms: set[str] = set()
        for policy, match in zip(self.access, matches, strict=True):
            if match is not best:
                continue
            if policy.realms is None:
                return AllowedRealms(None)
            realms |= policy.realms
        return AllowedRealms(frozenset(realms))


@dataclass(frozen=True)
class AllowedRealms:
    """Realms as policies write them; None means all. LinOTP's realms are in lower case, and other names match none."""

    realms: frozenset[str] | None


RECORD_EVERYTHING: Final = RecordingPolicy(None, COUNTED_STATUSES)
"""The recording policy without a file."""


def read(path: Path) -> Policies:
    """The policies of a file. Raises ValueError with the error and its place in the file."""
    return decode(path, read_bounded(path))


def decode(path: Path, content: bytes) -> Policies:
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(text: str) -> Policies:
    """The policies of a file's text. Raises ValueError with the line or the policy."""
    recording, access = [], []
    for name, attributes in _sections(text):
        policy = _Policy(name, attributes)
        if policy.scope == RECORDING_SCOPE:
            recording_policy = RecordingPolicy(policy.recorded_realms, policy.statuses)
            if policy.active:
                recording.append(recording_policy)
        elif policy.scope in ACCESS_SCOPES:
            access_policy = AccessPolicy(policy.users, policy.actions, policy.allowed_realms)
            if policy.active:
                access.append(access_policy)
        elif policy.scope.startswith(RECORDING_SCOPE):
            # Ignoring a misspelled access policy would allow everybody everything.
            raise policy.error("scope", f"{policy.scope!r} is neither {RECORDING_SCOPE} nor {ACCESS_SCOPES[0]}")
    return Policies(tuple(recording), tuple(access))


class _Policy:
    """One section, read attribute by attribute."""

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        self._name = name
        self._attributes = attributes
        self.scope = self._required("scope").lower()
        if self.scope.startswith(RECORDING_SCOPE):
            self._reject_unenforced()

    def error(self, attribute: str, message: str) -> ValueError:
        return ValueError(f"policy [{self._name}], {attribute}: {message}")

    @property
    def active(self) -> bool:
        value = self._attributes.get("active", "True").lower()
        if value not in ("true", "false"):
            raise self.error("active", "is neither True nor False")
        return value == "true"

    @property
    def recorded_realms(self) -> frozenset[str] | None:
        """`*` anywhere means all. A name with `-` or `!` before it takes that name out of the list."""
        names = _listed(self._required("realm").lower())
        if "*" in names:
            return None
        denied = {name[1:] for name in names if name.startswith(DENIALS)}
        return frozenset(name for name in names if not name.startswith(DENIALS)) - denied

    @property
    def allowed_realms(self) -> frozenset[str] | None:
        realms = _listed(self._required("realm"))
        for realm in realms:
            if realm.startswith(DENIALS):
                # LinOTP takes it for the name of a realm; its author meant that the policy excludes the realm.
                raise self.error("realm", f"{realm[:64]!r}: a realm cannot be denied in {ACCESS_SCOPES[0]}")
        return None if "*" in realms else frozenset(realms)

    @property
    def users(self) -> tuple[str, ...]:
        """Conditions in order. An empty `user` matches no user; LinOTP's import sets a missing one to `*`."""
        conditions = _listed(self._attributes.get("user", "*"))
        for condition in conditions:
            if (reason := check_condition(condition)) is not None:
                raise self.error("user", f"{condition[:64]!r} {reason}")
        return conditions

    @property
    def actions(self) -> frozenset[str] | None:
        actions = _listed(self._required("action"))
        for action in actions:
            if action not in (*ACTIONS, *WILDCARD):
                raise self.error("action", f"{action[:64]!r} is none of {', '.join(ACTIONS)}, *")
        return None if "*" in actions else frozenset(actions)

    @property
    def statuses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._status(action) for action in _listed(self._required("action"))))

    def _status(self, action: str) -> str:
        if action == "token_total":
            return "total"
        if action == "token_user_total":
            return TOTAL_USERS
        name, equals, status = action.partition("=")
        if name.strip() != "token_status" or not equals:
            # LinOTP 4 refuses `*` in this scope too.
            raise self.error("action", f"{action[:64]!r} is none of token_total, token_status=…, token_user_total")
        status = status.strip().lower()
        if canonical_status(status) is None:
            raise self.error("action", f"token_status: {status[:64]!r} is none of {', '.join(COUNTED_STATUSES)}")
        return status

    def _required(self, attribute: str) -> str:
        value = self._attributes.get(attribute, "")
        if not _listed(value):
            raise self.error(attribute, "is missing")
        return value

    def _reject_unenforced(self) -> None:
        """Raise ValueError for a restriction that is not enforced here, because operators would rely on it."""
        for attribute, value in self._attributes.items():
            if attribute in ("name", "realm", "scope", "action", "active"):
                continue
            if attribute == "user" and self.scope in ACCESS_SCOPES:
                continue
            if value in ("", "*") or (attribute == "time" and ALWAYS_TIME.fullmatch(value)):
                continue
            raise self.error(attribute, f"is not enforced here, so it must be *, not {value[:64]!r}")


def _listed(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _sections(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The name and attributes of each section."""
    name: str | None = None
    attributes: dict[str, str] = {}
    seen: set[str] = set()
    lines = iter(enumerate(text.removeprefix("\ufeff").splitlines(), 1))
    for number, line in lines:
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            if name is not None:
                yield name, attributes
            if not (header := re.fullmatch(r"\[([^\[\]]+)\]", line)):
                raise ValueError(f"line {number} is not a section: [name]")
            name, attributes = header[1].strip(), {}
            if name in seen:
                raise ValueError(f"line {number}: policy [{name}] is defined twice")
            seen.add(name)
            continue
        attribute, equals, value = line.partition("=")
        attribute = attribute.strip().lower()
        if not equals or not attribute:
            raise ValueError(f"line {number} is neither [name] nor attribute = value")
        if name is None:
            raise ValueError(f"line {number} is before the first [name]")
        if attribute in attributes:
            raise ValueError(f"line {number}: policy [{name}] defines {attribute} twice")
        attributes[attribute] = _unquoted(value.strip(), number, lines)
    if name is not None:
        yield name, attributes


def _unquoted(value: str, number: int, lines: Iterator[tuple[int, str]]) -> str:
    """A value without quotes, with the lines up to the closing quote."""
    if value[:1] not in ('"', "'"):
        return value
    quote, unquoted = value[0], value[1:]
    while quote not in unquoted:
        following = next(lines, None)
        if following is None:
            raise ValueError(f"line {number}: the quote is never closed")
        unquoted = f"{unquoted} {following[1].strip()}"
    unquoted, _, rest = unquoted.partition(quote)
    if rest.strip():
        raise ValueError(f"line {number}: {rest.strip()[:64]!r} follows the closing quote")
    return unquoted.strip()
