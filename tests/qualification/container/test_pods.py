"""The pods of Kubernetes, rendered by kubectl and started by `podman kube play`, beside Kafka and Valkey of Compose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import wait_until
from tests.qualification.container.engine import Engine
from tests.qualification.container.pods import Pods
from tests.qualification.container.stack import Stack

pytestmark = pytest.mark.container

SERVERS: Final = ("kafka", "valkey", "topics")
CHECK: Final = ("python", "-m", "deploy.container.healthcheck")


@pytest.fixture(scope="module")
def servers(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(engine, tmp_path_factory.mktemp("servers"))
    try:
        stack.start(SERVERS)
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def pods(servers: Stack, tmp_path: Path) -> Iterator[Pods]:
    secrets = {
        "user-hash-key": servers.secret("user_hash_key"),
        "worker-redis-url": servers.secret("worker_redis_url"),
        "api-redis-url": servers.secret("api_redis_url"),
        "operator-redis-url": servers.secret("operator_redis_url"),
        "cache-redis-url": servers.secret("api_redis_url"),
        "tokens.json": servers.secret("tokens.json"),
    }
    network = f"{servers.project}_default"
    made = Pods(servers.engine, network, secrets, servers.project[-8:], tmp_path)
    try:
        yield made
    finally:
        made.close()


def ready(pods: Pods, container: str, port: int) -> bool:
    """The readiness probe's request, from inside the pod."""
    ask = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/health/ready', timeout=5)"
    return pods.engine.attempt(("podman", "exec", container, "python", "-c", ask)).returncode == 0


def test_the_pods_of_worker_and_api_become_ready(pods: Pods) -> None:
    worker = pods.play("StatefulSet", "authtally-worker")
    api = pods.play("Deployment", "authtally-api")
    for container, port in ((worker, 8090), (api, 8080)):
        wait_until(partial(ready, pods, container, port), 90, pods.engine.logs(container))
        assert pods.engine.attempt(("podman", "exec", container, *CHECK)).returncode == 0
        assert pods.engine.inspect(container, "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}") == "true 65532:65532"
        assert pods.engine.inspect(container, "{{json .EffectiveCaps}}") in {"[]", "null"}
        variables: list[str] = json.loads(pods.engine.inspect(container, "{{json .Config.Env}}"))
        assert "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS=kafka:9092" in variables
    environment: Any = json.loads(pods.engine.inspect(worker, "{{json .Config.Env}}"))
    # Static membership: the pod's own name.
    assert f"AUTHTALLY_KAFKA_GROUP_INSTANCE_ID=authtally-worker-{pods.suffix}" in environment
    for container in (worker, api):
        pods.engine.podman("stop", "--time", "60", container)
        assert pods.engine.inspect(container, "{{.State.ExitCode}}") == "0", pods.engine.logs(container)
