"""Runs one worker: `python -m aggregator`, or `authtally worker`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, Final

import faust
import structlog

from aggregator.app import build_worker
from aggregator.assignment import SettingsConflictError
from aggregator.settings import WorkerSettings
from aggregator.startup import PreflightError
from schemas.settings import SettingsError, read
from schemas.telemetry import logs
from schemas.telemetry.exit_deadline import ExitDeadline

log = structlog.get_logger(__name__)


SHUTDOWN_S: Final = 25.0
"""The limit for an orderly shutdown: below the 30 s until SIGKILL in our manifests, so that stacks are written."""


class Runner(faust.Worker):  # type: ignore[misc]
    """Faust's worker, with a time limit for its shutdown."""

    def __init__(self, *services: Any, deadline: ExitDeadline, **options: Any) -> None:
        super().__init__(*services, **options)
        self._deadline = deadline
        # The spinner would write terminal escapes into the lines of the log, whatever their format.
        self.spinner = None

    def install_signal_handlers(self) -> None:
        super().install_signal_handlers()
        # In addition to the loop's handlers, which a blocked loop does not run.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._deadline.within(SHUTDOWN_S))
            signal.siginterrupt(number, False)


def main() -> None:
    """Work until SIGTERM or SIGINT. Raises SettingsError; exits 1, after logging the reason, if it cannot continue."""
    settings = read(WorkerSettings)
    logs.configure(settings.log_level, settings.log_format)
    if sys.platform != "win32":
        import uvloop

        # A policy, not a runner: Faust creates its own loops, one per thread.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    worker = build_worker(settings)
    runner: Any = Runner(
        worker.app,
        deadline=worker.deadline,
        override_logging=False,
        redirect_stdouts=False,
        loop=asyncio.new_event_loop(),
        quiet=True,
    )
    try:
        runner.execute_from_commandline()
    except (PreflightError, SettingsConflictError) as error:
        log.critical("cannot work", why=str(error))
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(2)
