"""Runs one worker: `python -m aggregator`, or `authtally worker`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import faust
import structlog

from aggregator.app import build_worker
from aggregator.placement import SettingsDifferError
from aggregator.settings import WorkerSettings
from aggregator.startup import UnfitError
from schemas import logs
from schemas.settings import SettingsError, read

log = structlog.get_logger(__name__)


def main() -> None:
    """Work until SIGTERM or SIGINT. Raises SettingsError; exits 1 when it cannot go on, after a line that says why."""
    settings = read(WorkerSettings)
    logs.configure(settings.log_level, settings.log_format)
    if sys.platform != "win32":
        import uvloop

        # A policy, not a runner: Faust makes its loops itself, one per thread.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    worker = build_worker(settings)
    runner: Any = faust.Worker(
        worker.app, override_logging=False, redirect_stdouts=False, loop=asyncio.new_event_loop(), quiet=True
    )
    try:
        runner.execute_from_commandline()
    except (UnfitError, SettingsDifferError) as error:
        log.critical("cannot work", why=str(error))
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(2)
