"""One pass of `authtally publish` over its input: skip the acknowledged elements, then send the rest."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from deploy.cli.publish.progress import Shown
from deploy.cli.publish.run_stats import Rejects, RunStats
from deploy.cli.publish.sending import MESSAGE_TIMEOUT_S, Sending, SendingError, StoppedError
from deploy.cli.publish.source import InputError, Readable, Source
from deploy.cli.publish.state import FORMAT, ElementCounts, State, StateError, first_link, load, next_link, save
from schemas.adapters.elements import Adapter
from schemas.adapters.janssen_audit import LOG_PREFIX
from schemas.adapters.registry import adapter_named
from schemas.outgoing import UnboundError, outgoing, topics_by_event
from schemas.settings import ActiveOn, KafkaSettings, Listed
from schemas.user_ids import Normalization

STDIN: Final = "-"
SAVE_S: Final = 1.0
STOP_S: Final = 10.0


class PublishSettings(KafkaSettings):
    """Settings of `publish`. A dry run uses the last three, which have the same meaning for the worker."""

    user_scope: Literal["global", "realm"] = "global"
    user_id_normalize: Normalization = "off"
    active_on: Listed[ActiveOn] = ("login", "refresh")


@dataclass(frozen=True, slots=True)
class Options:
    file: str
    format: str
    source: str
    ids: bool
    state: Path | None
    rejects: Path | None
    restart: bool
    dry_run: bool
    as_json: bool

    def adapter(self, settings: PublishSettings) -> Adapter:
        return adapter_named(self.format, settings.realm_names)

    @property
    def entry(self) -> re.Pattern[bytes] | None:
        """The prefix of an entry, for formats that a product writes to a log file."""
        return LOG_PREFIX if self.format.startswith("janssen-audit") else None

    @property
    def state_path(self) -> Path | None:
        """By default beside the input; none for a stream, which can be read only once, unless `--state` names one."""
        if self.state is not None or self.file == STDIN or not Path(self.file).is_file():
            return self.state
        return Path(self.file + ".published")


class Stopped(BaseException):
    """SIGTERM or Ctrl-C while waiting for input."""


class StopRequest:
    """A signal's request to stop. Only waiting for input is interrupted; other work finishes its element."""

    def __init__(self, stream: Readable) -> None:
        self.requested_at = False
        self._stream = stream
        self._waiting = False

    def read1(self, size: int = -1, /) -> bytes:
        self._waiting = True
        try:
            if self.requested_at:
                raise Stopped
            return self._stream.read1(size)
        finally:
            self._waiting = False

    @contextmanager
    def requested(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested_at = True
        if self._waiting:
            raise Stopped


def state_to_resume(options: Options) -> State | None:
    """The state of an earlier run. Raises StateError if its options differ."""
    path = options.state_path
    if path is None or options.restart or (state := load(path)) is None:
        return None
    for name in ("format", "source", "ids"):
        was, now = getattr(state, name), getattr(options, name)
        if was != now:
            raise StateError(
                f"{path}: the first run used {name} {was!r}, not {now!r}; "
                "use the same option, or start at the beginning with --restart"
            )
    return state


class Run:
    """One pass over the input: skip the acknowledged elements, then send the rest."""

    def __init__(
        self, settings: PublishSettings, options: Options, rejects: Rejects, state: State | None, source: Source
    ) -> None:
        self._options = options
        self._path = options.state_path
        self._state = state
        self._source = source
        self._bound = topics_by_event(settings.topics)
        self._elements = iter(source)
        self._saved_at = 0.0
        self._settings = settings
        self.resumed_at = state.tally.elements if state else 0
        self.finished = False
        self.acknowledged = state.tally if state else ElementCounts()
        self.account = RunStats(
            options.adapter(settings),
            bytes.fromhex(state.link) if state else first_link(options.source),
            rejects,
            ids=options.ids,
            before=state.tally if state else None,
        )

    def run(self, shown: Shown, stop: StopRequest) -> str | None:
        """Skip, send, wait for the last acknowledgement; returns the error's text, if any. Raises StateError."""
        try:
            self._skip(shown)
            sending = Sending(self._settings, self._reached, lambda: stop.requested_at)
        except (InputError, SendingError) as error:
            return str(error)
        except Stopped:
            return None
        shown.begin("publishing", self.account.events)
        problem = None
        try:
            try:
                self._send(sending, shown, stop)
            except InputError as error:
                problem = str(error)
            except Stopped:
                pass
            sending.finish(self.account.tally(), self.account.link, STOP_S if stop.requested_at else MESSAGE_TIMEOUT_S)
            self.finished = not problem and not stop.requested_at
        except (SendingError, UnboundError) as error:
            problem = str(error)
            sending.give_up(STOP_S)
        except StoppedError:
            sending.give_up(STOP_S)
        self.save(self.acknowledged, self._link)
        return problem

    def _skip(self, shown: Shown) -> None:
        """Skip the acknowledged elements. Raises StateError if the input has changed."""
        state = self._state
        if state is None or not state.tally.elements:
            return
        shown.begin("skipping", 0)
        link, skipped = first_link(self._options.source), 0
        for raw in self._elements:
            link = next_link(link, raw)
            skipped += 1
            shown.at(0)
            if skipped == state.tally.elements:
                break
        if skipped != state.tally.elements or link.hex() != state.link:
            raise StateError(
                f"{self._path}: this is another input than that of the first run: it differs within its first "
                f"{state.tally.elements:,} elements. Use another --state, or start at the beginning with --restart"
            )

    def _send(self, sending: Sending, shown: Shown, stop: StopRequest) -> None:
        account, source, bound = self.account, self._source, self._bound
        for raw in self._elements:
            for event in account.add(raw, source):
                sending.send(outgoing(event, bound))
            sending.element_done(account.tally, account.link)
            shown.at(account.events)
            if stop.requested_at:
                return

    def _reached(self, tally: ElementCounts, link: bytes) -> None:
        self.acknowledged, self._link = tally, link
        if time.monotonic() - self._saved_at >= SAVE_S:
            self.save(tally, link)

    def save(self, tally: ElementCounts, link: bytes) -> None:
        self._link = link
        if self._path is None:
            return
        self.account.rejects.flush()
        options = self._options
        save(
            self._path,
            State(FORMAT, options.format, options.source, options.ids, link.hex(), tally, self.finished),
        )
        self._saved_at = time.monotonic()
