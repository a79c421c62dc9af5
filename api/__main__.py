"""`python -m api`: reads the settings, serves until SIGTERM or SIGINT. `--check` prints them and exits."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Sequence

import structlog
import uvloop
from aiohttp.http_exceptions import HttpProcessingError

from api.app import build_app, build_runner
from api.http.server import BoundedSite
from api.settings.settings import ApiSettings
from schemas.settings import PREFIX, SettingsError, effective, read
from schemas.telemetry import logs
from schemas.telemetry.exit_deadline import CRASH_S, ExitDeadline

log = structlog.get_logger(__name__)

BAD_SETTINGS = 2
SHUTDOWN_S = 70.0
"""Limit of an orderly shutdown: the longest request is 60 s, and the shipped manifests send SIGKILL after 75 s."""
COLLECT_AFTER = 5_000, 2, 800
"""Net new objects after which the garbage collector searches the youngest ones for cycles (Python's default is 700);
how many such searches precede one of the next generation, and of all objects. A search of 20,000 objects takes 4 ms."""


def main(arguments: Sequence[str] = ()) -> int:
    """The exit status: 0 after a clean stop, 2 for wrong settings (all errors on stderr, with the setting's name)."""
    try:
        settings = read(ApiSettings)
        if "--check" in arguments:
            sys.stdout.writelines(f"{name}={value}\n" for name, value in effective(settings).items())
            return 0
        logs.configure(settings.log_level, settings.log_format)
        logging.getLogger("aiohttp.server").addFilter(_not_our_fault)
        uvloop.run(serve(settings))
    except SettingsError as error:
        sys.stderr.writelines(f"{fault}\n" for fault in error.errors)
        return BAD_SETTINGS
    return 0


async def serve(settings: ApiSettings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    deadline = ExitDeadline(lambda: [loop])
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
        # In addition to the loop's handler, which a blocked loop would not run.
        signal.signal(number, lambda *_: deadline.within(SHUTDOWN_S))
        signal.siginterrupt(number, False)
    try:
        await serve_until(stop, settings)
    except BaseException:
        deadline.within(CRASH_S)
        raise


async def serve_until(stop: asyncio.Event, settings: ApiSettings) -> None:
    """Serve until `stop` is set. Raises SettingsError if the address cannot be bound."""
    allow_connections()
    runner = build_runner(build_app(settings))
    await runner.setup()
    try:
        site = BoundedSite(runner, settings.api_host, settings.api_port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError([f"{PREFIX}API_HOST, {PREFIX}API_PORT: {error.strerror}"]) from error
        host, port = runner.addresses[0][:2]
        log.info("listening", host=host, port=port)
        # Objects of the start-up stay, so the collector skips them; reference counts free nearly all objects of
        # requests. With Python's default threshold, collection took a sixth of the time per ingested event.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        await stop.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()


def allow_connections() -> None:
    """Raise the limit of open files to the maximum: with the usual 1,024, idle connections could block all others."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _not_our_fault(record: logging.LogRecord) -> bool:
    """Drop errors of the HTTP parser: anyone who can reach the port could fill the log with its tracebacks."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
