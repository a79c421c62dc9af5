"""Why a question gets no answer. A dialect's third verb, refuse, puts each into its product's own shape."""

from __future__ import annotations

from typing import ClassVar, Final

PROBLEM_JSON: Final = "application/problem+json"
"""How a refusal is told where no product has another shape (RFC 9457)."""


class ApiError(Exception):
    """`message` is for the caller: it tells nothing about tokens, keys, servers or other callers."""

    status: ClassVar[int]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequestError(ApiError):
    status = 400


class UnauthorizedError(ApiError):
    """No token, a bad one, or one without the scope. Always the same sentence, so that none can be told apart.

    Products that do tell them apart find the last two as classes of their own.
    """

    status = 401

    def __init__(self) -> None:
        super().__init__("A bearer token that is valid here and carries the required scope is needed.")


class MalformedTokenError(UnauthorizedError):
    """The Authorization header names no bearer token."""


class InsufficientScopeError(UnauthorizedError):
    """The token is good, but not for this."""


class ForbiddenError(ApiError):
    status = 403


class TooManyRequestsError(ApiError):
    """The caller has used up its requests; `wait_s` until it has one more."""

    status = 429

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many requests.")
        self.wait_s = wait_s


class UnavailableError(ApiError):
    """The world is bad: the ledger or the identity provider cannot be reached. Waiting may help."""

    status = 503


class InternalError(ApiError):
    """A defect of ours; the log has it."""

    status = 500

    def __init__(self) -> None:
        super().__init__("The server met an unexpected condition.")
