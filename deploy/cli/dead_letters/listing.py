"""`authtally dead-letters list`: counts by reason and topic, and a few samples of each reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from aggregator.settings import WorkerSettings
from deploy.cli.dead_letters.resending import Resent, read_resent
from deploy.cli.dead_letters.topic import DeadLetterTopic, Identity, Letter, letter_of
from deploy.cli.json_output import print_json
from deploy.cli.operations import show_table
from deploy.cli.terminal import echo

SAMPLES: Final = 3


@dataclass
class _Summary:
    """Counts are by reason and source topic; a letter counts once, however many copies there are."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    resent: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[str, list[Letter]] = field(default_factory=lambda: defaultdict(list))
    copies: int = 0
    foreign: int = 0
    """Messages that authtally did not write."""


def show(settings: WorkerSettings, *, as_json: bool) -> None:
    """Print counts by reason, and samples with origin and detail, never a value or key. Raises click.ClickException."""
    topic = DeadLetterTopic(settings)
    summary = _summarize(topic, read_resent(settings))
    if as_json:
        print_json(_as_document(topic.name, summary))
    else:
        _print(topic.name, summary)


def _summarize(topic: DeadLetterTopic, resent: Resent) -> _Summary:
    summary = _Summary()
    seen: set[Identity] = set()
    for message in topic.messages():
        letter = letter_of(message)
        if letter is None:
            summary.foreign += 1
            continue
        if letter.identity in seen:
            summary.copies += 1
            continue
        seen.add(letter.identity)
        kind = letter.reason, letter.identity.topic
        summary.counts[kind] += 1
        summary.resent[kind] += letter.offset < resent.get(topic.resent_field(letter), 0)
        if len(summary.samples[letter.reason]) < SAMPLES:
            summary.samples[letter.reason].append(letter)
    return summary


def _as_document(name: str, summary: _Summary) -> dict[str, Any]:
    return {
        "topic": name,
        "letters": [
            {"reason": reason, "topic": topic, "records": number, "resent": summary.resent[reason, topic]}
            for (reason, topic), number in sorted(summary.counts.items())
        ],
        "samples": [
            {
                "reason": letter.reason,
                "topic": letter.identity.topic,
                "partition": letter.identity.partition,
                "offset": letter.identity.offset,
                "index": letter.identity.place,
                "bytes": letter.size,
                "cut": letter.cut,
                "detail": letter.detail,
            }
            for _reason, letters in sorted(summary.samples.items())
            for letter in letters
        ],
        "copies": summary.copies,
        "foreign": summary.foreign,
    }


def _print(name: str, summary: _Summary) -> None:
    if not summary.counts:
        echo(f"{name} contains no dead letter.")
    else:
        rows = ((*kind, number, summary.resent[kind]) for kind, number in sorted(summary.counts.items()))
        show_table(("reason", "topic", "records", "resent"), rows)
        echo()
        show_table(
            ("reason", "topic", "partition", "offset", "index", "bytes", "detail"),
            (
                (letter.reason, *letter.identity, f"{letter.size}{' (cut)' if letter.cut else ''}", letter.detail)
                for _reason, letters in sorted(summary.samples.items())
                for letter in letters
            ),
        )
    if summary.copies:
        echo(f"{summary.copies} more are copies that a crash left; they count once.")
    if summary.foreign:
        echo(f"{summary.foreign} messages carry none of our headers and are skipped.")
