"""One run: a site, a flow, a nemesis, then the verdict and its record."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from schemas.ledger.keys import Shard
from tests.integration.plain_faust import COUNTS
from tests.qualification.chaos.annex import EVENTS_PER_S, Annex
from tests.qualification.chaos.arms import program
from tests.qualification.chaos.faults import KINDS
from tests.qualification.chaos.faulty_fold import FAULTY
from tests.qualification.chaos.fleet import MODULE
from tests.qualification.chaos.letters import dead_letters
from tests.qualification.chaos.nemesis import Done, Nemesis
from tests.qualification.chaos.network import CHECKOUT
from tests.qualification.chaos.site import DEAD, FLEETING, Plan, Site
from tests.qualification.chaos.verdict import Verdict, judge, judge_totals
from tests.qualification.chaos.waiting import LateError, wait_for

COUNTED_S: Final = 600
LEDGERS: Final = ("worker", "no-compare")
"""Arms that keep a ledger; the others keep totals."""
HARMLESS: Final = frozenset({"partitions_added", "records_deleted", "topic_made_anew", "worker_updated"})
"""What an arm without a ledger knows nothing of."""
MOST_SHOWN: Final = 50


@dataclass(frozen=True)
class Order:
    """What to run. It ends at whichever bound comes first."""

    seed: int
    minutes: float
    arm: str = "worker"
    faults: int = 1_000_000
    events: int = 100_000_000
    events_per_s: int = 20_000
    kinds: Collection[str] = field(default_factory=lambda: set(KINDS))
    older: str = ""
    workers: int = 3
    once: bool = False
    """Whether each kind comes once before any comes again, however much it weighs."""
    logs: Path | None = None


def run(order: Order, report: Callable[[str], None]) -> dict[str, Any]:
    """The record of a run; its `verdict` says what was lost. Raises LateError, TimeoutError when it cannot end."""
    keeps_ledger = order.arm in LEDGERS
    kinds = set(order.kinds) - (set() if keeps_ledger else HARMLESS)
    plan = Plan(
        seed=order.seed,
        workers=order.workers,
        events_per_s=order.events_per_s,
        older=order.older if order.arm == "worker" else "",
        plain=not keeps_ledger,
        annex="store_address_moved" in kinds and keeps_ledger,
        apis=2 if order.arm == "worker" else 0,
        program=_program(order.arm, kinds),
    )
    began = time.monotonic()
    report(f"seed {order.seed}, arm {order.arm}, {len(kinds)} kinds of faults, up to {order.minutes:g} min")
    with Site(plan) as site:
        nemesis = Nemesis(site, order.seed, kinds, report, timed=keeps_ledger, weighs=not order.once)
        site.ledger.flow(order.events_per_s)
        if site.annex is not None:
            site.annex.ledger.flow(EVENTS_PER_S)
        if keeps_ledger:
            _wait_until_moving(site)
        deadline = time.monotonic() + order.minutes * 60

        def over() -> bool:
            return (
                time.monotonic() > deadline
                or len(nemesis.done) >= order.faults
                or site.ledger.sent >= order.events
                or any(ledger.failure for ledger in site.ledgers)
            )

        try:
            nemesis.torment(over)
            for ledger in site.ledgers:
                ledger.stop()
            report(f"{len(nemesis.done)} faults, {site.ledger.sent} events sent; now everything must be counted")
            ends, late = _wait_until_counted(site, keeps_ledger)
            site.ledger.audit(ends)
            verdict = _judge(site, ends, keeps_ledger)
            if site.annex is not None:
                more, late_too = _judge_annex(site.annex)
                verdict, late = verdict + more, late or late_too
            letters = _wrong_letters(site) if keeps_ledger else ([], [])
        except BaseException:
            report(_last_words(site))
            raise
        finally:
            if order.logs:
                for number, fleet in enumerate(site.fleets):
                    fleet.copy_logs(order.logs / str(number))
        return _record(order, site, nemesis.done, nemesis.skipped, verdict, letters, late, time.monotonic() - began)


def _program(arm: str, kinds: Collection[str]) -> tuple[str, ...]:
    if arm != "worker":
        return program(arm)
    return (FAULTY, "never there") if "unexpected_record" in kinds else MODULE


def _wait_until_moving(site: Site) -> None:
    marks = [site.struck()]
    if site.annex is not None:
        marks.append(site.annex.watch.mark())
    wait_for(lambda: not any(mark.pending for mark in marks), 90, "every shard moves")
    site.watch.clear()


def _wait_until_counted(site: Site, keeps_ledger: bool) -> tuple[dict[Shard, int], str]:
    site.store.wait_until_whole(120)
    site.kafka.wait_until_in_step(180)
    site.ledger.wait_until_no_transaction_is_open()
    ends = site.ledger.ends()
    try:
        if keeps_ledger:
            wait_for(
                lambda: all(site.watch.positions[shard] == end for shard, end in ends.items()),
                COUNTED_S,
                f"positions {site.watch.positions} become {ends}",
            )
        else:
            _wait_until_committed(site, ends)
    except LateError as error:
        return ends, str(error)
    return ends, ""


def _judge_annex(annex: Annex) -> tuple[Verdict, str]:
    ledger = annex.ledger
    annex.wait_until_whole()
    ends = ledger.ends()
    late = ""
    try:
        wait_for(lambda: annex.watch.positions == ends, COUNTED_S, f"{annex.watch.positions} become {ends}")
    except LateError as error:
        late = str(error)
    ledger.audit(ends)
    return judge(annex.primary.client, ledger.expected(), ends), late


def _wait_until_committed(site: Site, ends: dict[Shard, int]) -> None:
    """The plain arm's own belief to be done, or no change of what it holds for a while."""
    reader: Any = Consumer(
        {"bootstrap.servers": site.kafka.bootstrap, "group.id": site.settings["kafka_group"], "log_level": 0}
    )
    asked = [TopicPartition(*shard) for shard in ends]

    def done() -> bool:
        return all(at.offset >= ends[Shard(at.topic, at.partition)] for at in reader.committed(asked, timeout=20))

    try:
        wait_for(done, 150, "plain Faust has committed everything")
    finally:
        reader.close()


def _judge(site: Site, ends: dict[Shard, int], keeps_ledger: bool) -> Verdict:
    expected = site.ledger.expected()
    with site.store.client() as client:
        if keeps_ledger:
            return judge(client, expected, ends)
        held = client.hgetall(COUNTS)
    return judge_totals({name: int(value) for name, value in held.items()}, expected)


def _wrong_letters(site: Site) -> tuple[list[str], list[str]]:
    """Dead letters that are due and not there, and those that are there and not due."""
    found = set(dead_letters(site.kafka.bootstrap, DEAD))
    due = set().union(*(ledger.letters() for ledger in site.ledgers))
    fleeting = {letter for letter in found if letter.topic == FLEETING}
    return [str(letter) for letter in sorted(due - found)], [str(letter) for letter in sorted(found - due - fleeting)]


def _last_words(site: Site) -> str:
    from deploy.demo.servers.process import tail

    lines = [f"positions {site.watch.positions}", f"flow: {site.ledger.failure}"]
    for worker in [worker for fleet in site.fleets for worker in fleet.members]:
        with contextlib.suppress(OSError):
            lines.append(f"--- {worker.log_file.parent.name} {worker.readiness()}\n{tail(worker.log_file, 25)}")
    return "\n".join(lines)


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """How a list of times lies: their number, median, 99th percentile, most."""
    held = sorted(seconds)
    if not held:
        return {"number": 0}
    return {
        "number": len(held),
        "p50_s": round(statistics.median(held), 2),
        "p99_s": held[min(len(held) - 1, int(len(held) * 0.99))],
        "max_s": held[-1],
    }


def _record(
    order: Order,
    site: Site,
    done: Sequence[Done],
    skipped: Counter[str],
    verdict: Verdict,
    letters: tuple[list[str], list[str]],
    late: str,
    took_s: float,
) -> dict[str, Any]:
    by_kind: dict[str, list[float]] = defaultdict(list)
    for one in done:
        if one.recovered_s is not None:
            by_kind[one.kind].append(one.recovered_s)
    promotions: dict[str, list[float]] = defaultdict(list)
    for doing, mark in site.watch.promotions:
        if mark.moved_s and not mark.pending and not mark.disturbed:
            promotions[doing].append(round(mark.slowest_s, 2))
    lanes = [lane for ledger in site.ledgers for lane in ledger.lanes.values()]
    answers = sum((prober.outcomes for prober in site.probers), Counter[str]())
    return {
        "seed": order.seed,
        "arm": order.arm,
        "commit": _commit(),
        "older": order.older if site.fleet.older else "",
        "machine": f"{os.cpu_count()} cores, {platform.system()}, three brokers, six stores and all else on it",
        "minutes": round(took_s / 60, 1),
        "workers": order.workers,
        "partitions": len(lanes),
        "events": sum(lane.events for lane in lanes),
        "faults": len(done),
        "faults_by_kind": dict(sorted(Counter(one.kind for one in done).items())),
        "skipped": dict(skipped),
        "verdict": verdict.as_json(),
        "late": late,
        "kafka_or_producer_wrong": [line for ledger in site.ledgers for line in ledger.broken()],
        "dead_letters_missing": letters[0][:MOST_SHOWN],
        "dead_letters_not_due": letters[1][:MOST_SHOWN],
        "poisoned_records": sum(lane.poisoned for lane in lanes),
        "unknown_outcomes": sum(len(lane.unknown) for lane in lanes),
        "transactions": {"committed": len(site.ledger.committed), "aborted": len(site.ledger.aborted)},
        "ranges_refused": sum(fleet.refusals() for fleet in site.fleets),
        "workers_ended_by_themselves": [line for fleet in site.fleets for line in fleet.ended],
        "recovery": spread(one for times in by_kind.values() for one in times),
        "recovery_seconds": dict(sorted(by_kind.items())),
        "recovery_by_kind": {kind: spread(times) for kind, times in sorted(by_kind.items())},
        "after_promotion": {kind: spread(times) for kind, times in sorted(promotions.items())},
        "api": {
            "answers": dict(sorted(answers.items())),
            "wrong": [line for prober in site.probers for line in prober.wrong],
            "slowest_s": round(max(prober.slowest_s for prober in site.probers), 2),
        },
        "log": [f"{one.at_s} {one.kind}: {one.what}" for one in done],
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ("git", "describe", "--always", "--dirty", "--abbrev=12"), cwd=CHECKOUT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.decode().strip()
