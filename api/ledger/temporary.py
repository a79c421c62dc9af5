"""Unions that the store computes in temporary sketches, under keys that expire.

A step that adds to an expired key would create it again with fewer users, and the answer would be too small. Therefore
each step after the first proves that its key still exists, in the same script or transaction as its change: time stands
still there, so nothing expires in between. The count is followed by such a proof too, because no later step creates the
key. A missing key raises TimeoutError.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from api.ledger.client import Client, Command, chunks
from schemas.ledger.keys import TEMPORARY_MS

MAX_ARGUMENTS: Final = 4_000
"""Most members that one command adds, which blocks Redis."""

ADD: Final = f"""
if ARGV[1] == 'old' and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('PFADD', KEYS[1], unpack(ARGV, #KEYS + 1))
redis.call('PEXPIRE', KEYS[1], {TEMPORARY_MS})
for at = 2, #KEYS do redis.call('SET', KEYS[at], ARGV[at], 'PX', {TEMPORARY_MS}) end
if #KEYS > 1 then
  redis.call('PFMERGE', unpack(KEYS))
  redis.call('UNLINK', unpack(KEYS, 2))
end
return 1
"""
"""KEYS: the sketch, and a name for each string. ARGV: `new` or `old`, the strings, the members. Returns 1, or 0 if the
sketch has expired."""


ABSORB: Final = f"""
if redis.call('EXISTS', unpack(KEYS)) < #KEYS then return 0 end
redis.call('PFMERGE', unpack(KEYS))
redis.call('PEXPIRE', KEYS[1], {TEMPORARY_MS})
return 1
"""
"""KEYS: the sketch, and temporary ones of the same question, which stay. Returns 1, or 0 if one of them has expired."""


class Pipeline:
    """Commands that are sent together, with the replies that prove that no temporary key had expired."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._commands: list[Command] = []
        self._proofs: list[tuple[int, int]] = []

    def add(self, *command: str | bytes | int) -> int:
        """The number of its reply."""
        self._commands.append(command)
        return len(self._commands) - 1

    def add_proof(self, command: Command, expected: int) -> None:
        """A command whose reply, or the first one of its transaction, is `expected` unless a key has expired."""
        self._proofs.append((self.add(*command), expected))

    async def send(self) -> list[Any]:
        """The replies in order. Raises TimeoutError if a temporary key had expired, or one of client.UNREACHABLE."""
        commands, proofs = self._commands, self._proofs
        self._commands, self._proofs = [], []
        replies = await self._client.run(commands) if commands else []
        for number, expected in proofs:
            reply = replies[number]
            first = transaction(reply)[0] if isinstance(reply, list) else reply
            if first != expected:
                raise TimeoutError("a temporary key has expired")
        return replies


class TemporarySketch:
    """One part of a union. Its methods add commands to a pipeline."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.begun = False
        """A step was added to a pipeline, so that the key must exist from then on."""

    def add(self, pipeline: Pipeline, members: Collection[bytes] = (), sketches: Sequence[bytes] = ()) -> None:
        """Unite with members and sketches that the api has read. Creates the key, also if there are none."""
        for some in list(chunks(members, MAX_ARGUMENTS)) or [[]]:
            names = [f"{self.key}.{number}" for number in range(len(sketches))]
            state = "old" if self.begun else "new"
            pipeline.add_proof(("EVAL", ADD, 1 + len(names), self.key, *names, state, *sketches, *some), 1)
            sketches = ()
            self.begun = True

    def merge(self, pipeline: Pipeline, names: Iterable[str]) -> None:
        """Unite with sketches of the same server.

        A transaction, not a script: Redis would require the right to write to every key of a script that writes.
        """
        if not self.begun:
            self.add(pipeline)
        pipeline.add("MULTI")
        pipeline.add("PEXPIRE", self.key, TEMPORARY_MS)
        pipeline.add("PFMERGE", self.key, *names)
        # If it had expired PFMERGE created it again, without a TTL.
        pipeline.add("PEXPIRE", self.key, TEMPORARY_MS)
        pipeline.add_proof(("EXEC",), 1)

    def absorb(self, pipeline: Pipeline, other: TemporarySketch) -> None:
        """Unite with another sketch of the same question, which has begun too and stays; in a Cluster as well."""
        pipeline.add_proof(("EVAL", ABSORB, 2, self.key, other.key), 1)

    def take(self, pipeline: Pipeline) -> tuple[int, int]:
        """The numbers of the replies with the estimate and the sketch. The key is deleted."""
        replies = pipeline.add("PFCOUNT", self.key), pipeline.add("GET", self.key)
        delete(pipeline, [self.key])
        return replies


def count(pipeline: Pipeline, names: Iterable[str], temporary_keys: Sequence[str]) -> int:
    """The number of the reply with the estimate of all of them together. The temporary keys are deleted."""
    number = pipeline.add("PFCOUNT", *names, *temporary_keys)
    delete(pipeline, temporary_keys)
    return number


def delete(pipeline: Pipeline, temporary_keys: Sequence[str]) -> None:
    """Prove that the keys still exist, so that they existed for the reads before, and delete them."""
    if temporary_keys:
        pipeline.add_proof(("EXISTS", *temporary_keys), len(temporary_keys))
        pipeline.add("UNLINK", *temporary_keys)


def send_sketches(pipeline: Pipeline, key: str, sketches: Sequence[bytes]) -> list[str]:
    """The names of temporary keys, beside `key`, for sketches that the api has read."""
    names = [f"{key}.m{number}" for number in range(len(sketches))]
    for name, sketch in zip(names, sketches, strict=True):
        pipeline.add("SET", name, sketch, "PX", TEMPORARY_MS)
    return names


def transaction(replies: list[Any]) -> list[Any]:
    """The replies of EXEC. Raises the first error among them: redis-py returns errors inside of a reply."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies
