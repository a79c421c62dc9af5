"""The errors of every surface, and their rendered form. Each surface renders them in its product's own shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple


class ApiError(Exception):
    """`message` is for the caller: it never contains tokens, keys, server names or data of other callers."""

    status: ClassVar[int]

    def __init__(
        self, message: str, *, wait_s: float | None = None, members: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.wait_s = wait_s
        """Seconds after which a retry may succeed, if known."""
        self.members = members or {}
        """Extension members of a problem document (RFC 9457 §3.2)."""


class ErrorBody(NamedTuple):
    """A rendered error."""

    content: bytes
    content_type: str
    status: int
    headers: Mapping[str, str] | None = None
    """In addition to Content-Type and Cache-Control. None: the headers that the status requires."""


class BadRequestError(ApiError):
    status = 400


class UnauthorizedError(ApiError):
    """No token, a bad one, or one without the scope. One message for all, so that a caller learns nothing from it.

    The subclasses serve products whose answers distinguish these cases.
    """

    status = 401

    def __init__(self) -> None:
        super().__init__("A valid bearer token with the required scope is needed.")


class MalformedTokenError(UnauthorizedError):
    """The Authorization header contains no bearer token."""


class InsufficientScopeError(UnauthorizedError):
    """The token is valid but lacks the scope."""


class ForbiddenError(ApiError):
    status = 403


class NotFoundError(ApiError):
    """No route has the path."""

    status = 404

    def __init__(self) -> None:
        super().__init__("There is no such path.")


class MethodNotAllowedError(ApiError):
    """The path has a route, but not for the request's method."""

    status = 405

    def __init__(self, methods: Sequence[str]) -> None:
        super().__init__(f"This path allows the methods {', '.join(methods)} only.")
        self.methods = methods


class TooManyRequestsError(ApiError):
    """The caller has used up its requests; one more is allowed after `wait_s`."""

    status = 429

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many requests.", wait_s=wait_s)


class UnavailableError(ApiError):
    """The ledger or the identity provider is unreachable. A retry may succeed."""

    status = 503


class InternalError(ApiError):
    """A defect of the api; the log has the traceback."""

    status = 500

    def __init__(self) -> None:
        super().__init__("An unexpected error occurred in the server.")
