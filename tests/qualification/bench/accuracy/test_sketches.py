"""The formulas say what the servers and the library say that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from redis import Redis

from deploy.demo.servers import Valkey
from tests.qualification.bench.accuracy.adversary import RANK, craft
from tests.qualification.bench.accuracy.sketches import (
    JAVA_HIGHEST,
    JAVA_M,
    REDIS_HIGHEST,
    REDIS_LOG2M,
    REDIS_M,
    REDIS_SEED,
    U64,
    draw_registers,
    java_estimate,
    murmur64a,
    raise_registers,
    ranks,
    redis_estimate,
    redis_registers,
    rows,
)

# What `new HLL(15, 5)` of java-hll 1.6.0 answers for `splitmix(run * 2^40 + number)` of numbers below each size.
SIZES = (1, 1000, 2560, 2561, 3000, 4097, 10000, 40000, 75000, 80000, 82000, 85000, 100000, 150000, 1000000, 3000000)
JAVA = (
    (1, 1000, 2560, 2564, 3006, 4117, 10048, 40148, 75470, 82473, 84370, 87279, 101529, 149168, 993852, 3003423),
    (1, 1000, 2560, 2572, 3013, 4098, 10007, 40117, 74387, 79534, 83279, 86071, 100325, 149733, 1003623, 3006740),
    (1, 1000, 2560, 2559, 2997, 4109, 10042, 40250, 74484, 79342, 83454, 86316, 100952, 150194, 995159, 2999321),
    (1, 1000, 2560, 2557, 3003, 4071, 9987, 39806, 74718, 79613, 83793, 86630, 100345, 149340, 999570, 2999290),
)


def splitmix(run: int, first: int, end: int) -> U64:
    mixed = np.arange(first, end, dtype=np.uint64) + np.uint64((run << 40) + 0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


@pytest.mark.parametrize("run", range(len(JAVA)))
def test_model_of_java_hll_answers_what_java_hll_answers(run: int) -> None:
    registers = np.zeros(JAVA_M, np.uint8)
    found, before = [], 0
    for size in SIZES:
        raise_registers(registers, splitmix(run, before, size), JAVA_HIGHEST)
        before = size
        found.append(java_estimate(registers, size))
    assert tuple(found) == JAVA[run]


@pytest.mark.parametrize("users", [1, 100, 20_000, 300_000])
def test_model_of_redis_has_the_registers_and_the_estimate_of_the_server(users: int) -> None:
    ids = [f"user-{number:08}" for number in range(users)]
    registers = np.zeros(REDIS_M, np.uint8)
    raise_registers(registers, murmur64a(rows(ids), REDIS_SEED), REDIS_HIGHEST)
    with Valkey() as server, Redis.from_url(server.url) as client:
        for start in range(0, users, 4_000):
            client.pfadd("plain", *ids[start : start + 4_000])
        client.execute_command("PFDEBUG", "TODENSE", "plain")
        assert np.array_equal(redis_registers(client.get("plain")), registers)
        assert redis_estimate(registers) == client.pfcount("plain")


@pytest.mark.parametrize("users", [1_000, 200_000])
def test_drawn_registers_are_as_high_as_those_of_hashed_users(users: int) -> None:
    chance = np.random.default_rng(1)
    drawn = np.mean([draw_registers(chance, users, REDIS_M, REDIS_HIGHEST).mean() for _ in range(200)])
    hashed = np.zeros((200, REDIS_M), np.uint8)
    for run, registers in enumerate(hashed):
        raise_registers(registers, splitmix(run, 0, users), REDIS_HIGHEST)
    deviation = hashed.mean(axis=1).std() * np.sqrt(2 / 200)
    assert abs(drawn - hashed.mean()) < 4 * deviation


def test_crafted_ids_fill_every_register_with_one_high_rank() -> None:
    hashes = murmur64a(rows(craft()), REDIS_SEED)
    assert np.unique(hashes & np.uint64(REDIS_M - 1)).size == REDIS_M
    assert set(ranks(hashes, REDIS_LOG2M, REDIS_HIGHEST).tolist()) == {RANK}
