"""Why a question gets no answer. A dialect's third verb, refuse, puts each into its product's own shape."""

from __future__ import annotations

from typing import ClassVar, Final

PROBLEM: Final = "application/problem+json"
"""How a refusal is told where no product has another shape (RFC 9457)."""


class Fault(Exception):  # noqa: N818 -- the word for a refusal here, not for a defect
    """`sentence` is for the caller: it tells nothing about tokens, keys, servers or other callers."""

    status: ClassVar[int]

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class BadQuestion(Fault):
    status = 400


class NotAuthorized(Fault):
    """No token, a bad one, or one without the scope. Always the same sentence, so that none can be told apart.

    Products that do tell them apart find the last two as classes of their own.
    """

    status = 401

    def __init__(self) -> None:
        super().__init__("A bearer token that is valid here and carries the required scope is needed.")


class Malformed(NotAuthorized):
    """The Authorization header names no bearer token."""


class NoScope(NotAuthorized):
    """The token is good, but not for this."""


class Forbidden(Fault):
    status = 403


class TooMany(Fault):
    """The caller has used up its requests; `wait_s` until it has one more."""

    status = 429

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many requests.")
        self.wait_s = wait_s


class Unavailable(Fault):
    """The world is bad: the ledger or the identity provider cannot be reached. Waiting may help."""

    status = 503


class Unexpected(Fault):
    """A defect of ours; the log has it."""

    status = 500

    def __init__(self) -> None:
        super().__init__("The server met an unexpected condition.")
