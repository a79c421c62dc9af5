"""The worker's wiring: one Faust app, with one agent per topic that receives ranges."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final

import faust
import structlog
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from mode.supervisors import CrashingSupervisor
from yarl import URL

from aggregator import metrics
from aggregator.assignment import Assignment, SettingsConflictError
from aggregator.clocks import StoreClocks
from aggregator.counting import RangeCounter
from aggregator.health import Health
from aggregator.kafka.consumer_thread import ConsumerThread
from aggregator.kafka.dead_letters import DeadLetters
from aggregator.kafka.ranges import Range
from aggregator.kafka.tokens import KafkaTokenProvider
from aggregator.kafka.transport import FETCH_BYTES_PER_PARTITION, Schema, Transport
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import connect
from aggregator.progress import INTERVAL_S, Progress, StuckError
from aggregator.settings import WorkerSettings
from aggregator.startup import PreflightError, wait_for_preflight
from schemas.ledger.keys import Shard
from schemas.settings import read
from schemas.telemetry import traces
from schemas.telemetry.exit_deadline import CRASH_S, ExitDeadline

log = structlog.get_logger(__name__)

# With Faust's defaults a rebalance takes half a minute.
REBALANCE_TIMEOUT_S: Final = 10.0
HEARTBEAT_S: Final = 2.0
REQUEST_TIMEOUT_S: Final = 30.0
# New partitions and deleted topics are noticed after this time.
METADATA_AGE_MS: Final = 15_000
# Far more than the ranges that the transport keeps in memory: Faust pauses a whole topic when its buffer is 4/5 full.
STREAM_BUFFER: Final = 4096
# The time limit for sending the last spans at shutdown.
TRACES_FLUSH_S: Final = 3.0


class Worker:
    """All parts of one worker process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.redis = connect(settings)
        self.redis_error: str | None = None
        self.startup_error: str | None = None
        self.ledger = Ledger(self.redis, settings, on_error=self._on_redis_error)
        self.clocks = StoreClocks(self.ledger)
        self.health = Health(settings.worker_host, settings.worker_port, self.problems)
        self.assignment = Assignment(self.ledger, settings)
        self.tokens = KafkaTokenProvider(settings)
        kafka_credentials = credentials(settings, self.tokens)
        self.dead_letters = DeadLetters(settings, credentials_to_aiokafka_auth(kafka_credentials, None))
        self.traces = traces.open_traces(settings.otlp_endpoint, "worker")
        self.counting = RangeCounter(
            settings, self.ledger, self.dead_letters, self.assignment, self.clocks, self.traces.tracer
        )
        self.progress = Progress(
            self.ledger,
            self.counting,
            self.assignment,
            self.clocks,
            lambda: bool(self._external_problems()),
            settings.stuck_after_s,
        )
        self.deadline = ExitDeadline(self._loops)
        self.app = App(self, kafka_credentials)

    def _loops(self) -> list[asyncio.AbstractEventLoop]:
        loops = [self.app.loop]
        if isinstance(thread := getattr(self.app._consumer, "_thread", None), ConsumerThread):
            loops.append(thread.thread_loop)
        return loops

    def crashed(self, reason: BaseException) -> None:
        """Make the worker unready and dead, and end it soon even if it hangs. Any thread may call it, repeatedly."""
        if self.health.crashed is not None:
            return
        # The text of other exceptions may contain data of a record.
        ours = isinstance(reason, (StuckError, SettingsConflictError))
        self.health.record_crash(f"{type(reason).__name__}: {reason}" if ours else type(reason).__name__)
        self.deadline.within(CRASH_S)
        if isinstance(reason, StuckError):
            self.deadline.write_stacks()

    def _on_redis_error(self, error: str | None) -> None:
        self.redis_error = error
        if error:
            metrics.REDIS_ERRORS.inc()

    def _on_startup_wait(self, error: str | None) -> None:
        self.startup_error = error

    def _external_problems(self) -> dict[str, str]:
        problems = {
            "startup": self.startup_error,
            "redis": self.redis_error,
            "kafka": self.tokens.error or self.assignment.error,
            "dead_letters": self.dead_letters.error,
            "clock": next(iter(self.clocks.errors.values()), None),
        }
        return self.progress.problems | {component: error for component, error in problems.items() if error}

    def problems(self) -> dict[str, list[str]]:
        """Reasons why the worker is not ready, by component; empty while it counts."""
        problems = {"crashed": [f"crashed: {self.health.crashed}"]} if self.health.crashed else {}
        problems |= {component: [error] for component, error in self._external_problems().items()}
        if not self.app.joined:
            problems["group"] = ["joining the consumer group"]
        if self.assignment.stopped:
            problems["stopped"] = list(self.assignment.stopped.values())
        return problems

    async def start(self) -> None:
        """Prepare everything that must work before Kafka is read. Raises PreflightError."""
        # The collector would scan the youngest objects, all alive, every 700 records: 40 % of the worker's time.
        # progress.py runs it on a timer instead; records have no reference cycles, so little garbage accumulates.
        gc.collect()
        gc.freeze()
        gc.disable()
        metrics.init(self.settings.topics)
        await self.health.start()
        await wait_for_preflight(self.settings, self.redis, self._on_startup_wait)

    async def stop(self) -> None:
        await self.dead_letters.stop()
        await self.redis.aclose()
        await self.health.stop()
        await asyncio.to_thread(self.traces.close, TRACES_FLUSH_S)


class App(faust.App):  # type: ignore[misc]
    """The Faust app: takes positions from the ledger, has one agent per topic."""

    def __init__(self, worker: Worker, kafka_credentials: Any) -> None:
        settings = worker.settings
        brokers = [URL(f"kafka://{server.strip()}") for server in settings.kafka_bootstrap_servers.split(",")]
        super().__init__(
            settings.kafka_group,
            broker=brokers,
            broker_credentials=kafka_credentials,
            # Positions come from the ledger; assignment.py handles those outside the log.
            consumer_auto_offset_reset="none",
            consumer_max_fetch_size=FETCH_BYTES_PER_PARTITION,
            consumer_metadata_max_age_ms=METADATA_AGE_MS,
            broker_commit_interval=INTERVAL_S,
            consumer_group_instance_id=settings.kafka_group_instance_id or None,
            broker_session_timeout=settings.kafka_session_timeout_s,
            broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            # Faust rejects a session longer than a request. Price: a silent broker is noticed only after this time.
            broker_request_timeout=max(REQUEST_TIMEOUT_S, settings.kafka_session_timeout_s),
            stream_buffer_maxsize=STREAM_BUFFER,
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            table_standby_replicas=0,
            topic_disable_leader=True,
            topic_allow_declare=False,
            agent_supervisor=CrashingSupervisor,
            web_enabled=False,
            autodiscover=False,
            datadir=tempfile.gettempdir(),
        )
        self._worker = worker
        self._tasks: set[asyncio.Task[None]] = set()
        for topic in settings.topics:
            # No acks: Faust would keep a number per offset for them, and the ledger has the position.
            self.agent(self.topic(topic, schema=Schema(), acks=False), name=f"count:{topic}")(self._count_ranges)

    @property
    def joined(self) -> bool:
        """Whether this worker has its share of the partitions, which may be none."""
        # The group's generation does not show it: it is 0 before joining, and some brokers number the first one 0.
        return bool(self.started and not self.rebalancing and self.rebalancing_count > 0)

    def _new_transport(self) -> Transport:
        """Faust calls it when the transport is first needed; there is no argument of faust.App for a transport."""
        return Transport(
            self.conf.broker_consumer,
            self,
            assign=self._assign,
            positions=self._positions,
            on_poll=self._worker.health.record_poll,
        )

    async def _assign(self, shards: set[Shard]) -> None:
        await self._worker.assignment.assign(self.consumer, shards)

    async def _positions(self) -> dict[Shard, int]:
        """The positions to commit, after the regular checks: Faust's commit timer calls it every INTERVAL_S."""
        return await self._worker.progress.tick(self.consumer)

    async def _count_ranges(self, ranges: AsyncIterator[Range]) -> None:
        async for range_ in ranges:
            task = asyncio.create_task(self._count_range(range_))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _count_range(self, range_: Range) -> None:
        try:
            await self._worker.counting.count(self.consumer, range_)
        except Exception as error:
            # The outermost step. An unforeseen error must stop the worker: the next ranges would leave this one out.
            log.exception("range failed", shard=range_.shard.tag, start=range_.start, end=range_.end)
            await self.crash(error)
        finally:
            self.consumer.release_range(range_)

    def _crash(self, reason: BaseException) -> None:
        self._worker.crashed(reason)
        super()._crash(reason)

    async def on_start(self) -> None:
        try:
            await self._worker.start()
        except PreflightError as error:
            log.critical("cannot work", why=str(error))
            self._worker.crashed(error)
            # Faust would log any other exception again, with its traceback.
            raise SystemExit(1) from None
        await super().on_start()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._worker.stop()

    def _create_directories(self) -> None:
        """Disabled: Faust stores tables in them, and this app has none."""


def credentials(settings: WorkerSettings, tokens: KafkaTokenProvider) -> Any:
    """Faust's credentials for the Kafka settings; None for plaintext."""
    context = settings.kafka_tls()
    if settings.kafka_security_protocol.startswith("SASL"):
        if settings.kafka_sasl_mechanism == "OAUTHBEARER":
            return OAuthCredentials(oauth_cb=tokens, ssl_context=context)
        return SASLCredentials(
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            ssl_context=context,
        )
    return SSLCredentials(context=context) if context else None


def build_worker(settings: WorkerSettings | None = None) -> Worker:
    """A worker that is not started. Reads the environment if no settings are given; raises SettingsError."""
    return Worker(settings or read(WorkerSettings))


def __getattr__(name: str) -> Any:
    # `faust -A aggregator.app worker` needs `app`. Built on demand, so that an import does not read the environment.
    if name == "app":
        return build_worker().app
    raise AttributeError(name)
