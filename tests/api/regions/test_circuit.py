"""The circuit of a peer, by its clock, and the exports that stand in."""

from __future__ import annotations

from api.ledger.packed_values import OVERHEAD_BYTES
from api.regions.circuit import FIRST_S, LONGEST_S, TIMEOUTS, Circuit
from api.regions.kept import KeptExports
from api.regions.reader import Budget, plausible
from schemas.time.clock import Clock


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_circuit_opens_for_longer_with_each_failure_and_closes_by_a_probe() -> None:
    time = Time()
    circuit = Circuit(time)
    assert not circuit.is_open
    waits: list[float] = []
    for _ in range(12):
        circuit.record_failure()
        assert circuit.is_open
        waits.append(circuit.wait_s)
        circuit.record_probe(answered=True)
        assert circuit.is_open, "the probe alone does not close it before its time"
        time.now += circuit.wait_s
        assert not circuit.is_open
    assert waits[0] == FIRST_S
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_S
    circuit.record_answer()
    circuit.record_failure()
    assert circuit.wait_s == FIRST_S


def test_a_slow_answer_concerns_one_question() -> None:
    time = Time()
    circuit = Circuit(time)
    for _ in range(5):
        circuit.record_failure(timeout=True)
        circuit.record_failure(timeout=True)
        assert not circuit.is_open
        circuit.record_answer()
    for _ in range(TIMEOUTS):
        assert not circuit.is_open
        circuit.record_failure(timeout=True)
    assert circuit.is_open
    time.now += circuit.wait_s
    circuit.record_probe(answered=True)
    assert not circuit.is_open
    circuit.record_failure(timeout=True)
    assert circuit.is_open, "one more is enough until a question is answered"


def test_a_circuit_stays_open_until_a_probe_is_answered() -> None:
    time = Time()
    circuit = Circuit(time)
    circuit.record_failure()
    circuit.record_failure()
    assert circuit.wait_s == FIRST_S, "questions that fail together are one failure"
    time.now += 3600
    assert circuit.is_open
    circuit.record_probe(answered=False)
    assert circuit.is_open
    time.now += FIRST_S
    circuit.record_probe(answered=True)
    assert not circuit.is_open
    circuit.record_probe(answered=False)
    assert circuit.is_open, "a probe that fails opens it"


def test_kept_exports_have_an_age_and_a_bound() -> None:
    time = Time()
    kept = KeptExports(60, Clock(lambda: 0.0, time), max_bytes=3 * (OVERHEAD_BYTES + 200))
    for number in range(5):
        kept.put("us", f"name-{number}", ["x" * 100])
    assert kept.bytes <= 3 * (OVERHEAD_BYTES + 200)
    assert kept.get("us", "name-0", list[str]) is None, "the oldest use is evicted"
    time.now += 59
    found = kept.get("us", "name-4", list[str])
    assert found is not None
    assert (found.value, found.age_s) == (["x" * 100], 59)
    time.now += 2
    assert kept.get("us", "name-4", list[str]) is None
    kept.put("us", "a", [])
    kept.put("ap", "a", [])
    kept.forget("us")
    assert kept.get("us", "a", list[str]) is None
    assert kept.get("ap", "a", list[str]) is not None


def test_a_budget_leaves_time_for_others() -> None:
    time = Time()
    budget = Budget(time, 1.0)
    assert budget.timeout_s == 0.6
    time.now += 0.6
    assert abs(budget.timeout_s - 0.4) < 1e-9
    time.now += 5
    assert budget.timeout_s == 0


def test_sketches_must_fit_their_number_of_users() -> None:
    assert plausible(1000, 1000, 4)
    assert plausible(1020, 1000, 4)
    assert not plausible(1100, 1000, 4)
    assert plausible(0, 10, 4)
    assert not plausible(-(2**63), 10**6, 16)
    assert not plausible(2**62, 10**6, 16)
