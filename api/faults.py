"""Why a question gets no answer. A dialect's third verb, refuse, puts each into its product's own shape."""

from __future__ import annotations

from typing import ClassVar


class Fault(Exception):  # noqa: N818 -- the word for a refusal here, not for a defect
    """`sentence` is for the caller: it tells nothing about tokens, keys, servers or other callers."""

    status: ClassVar[int]

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class BadQuestion(Fault):
    status = 400


class NotAuthorized(Fault):
    """No token, a bad one, or one without the scope. Always the same sentence, so that none can be told apart."""

    status = 401

    def __init__(self) -> None:
        super().__init__("A bearer token that is valid here and carries the required scope is needed.")


class Forbidden(Fault):
    status = 403


class Unavailable(Fault):
    """The world is bad: the ledger or the identity provider cannot be reached. Waiting may help."""

    status = 503


class Unexpected(Fault):
    """A defect of ours; the log has it."""

    status = 500

    def __init__(self) -> None:
        super().__init__("The server met an unexpected condition.")
