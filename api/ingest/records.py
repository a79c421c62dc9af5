"""Outgoing records by topic, in librdkafka's form, with the element that each came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypedDict

from schemas.outgoing import Outgoing


class Message(TypedDict):
    value: bytes
    key: bytes | None


class Records:
    """`messages` by topic, in the order of their elements; `element_of` has the element's index of each."""

    __slots__ = ("element_of", "messages")

    def __init__(self) -> None:
        self.messages: Final[dict[str, list[Message]]] = {}
        self.element_of: Final[dict[str, Sequence[int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.messages.values()))

    @classmethod
    def from_outgoing(cls, records: Iterable[tuple[int, Outgoing]]) -> Records:
        made = cls()
        indexes: dict[str, list[int]] = {}
        for index, (topic, key, value) in records:
            made.messages.setdefault(topic, []).append({"value": value, "key": key})
            indexes.setdefault(topic, []).append(index)
        made.element_of.update(indexes)
        return made

    @classmethod
    def of_one_topic(cls, topic: str, messages: list[Message]) -> Records:
        """One message per element."""
        made = cls()
        made.messages[topic] = messages
        made.element_of[topic] = range(len(messages))
        return made
