"""Worker and api start as processes with the environments of Kubernetes and of publishers, and become ready.

Only addresses, secrets and the folders that they are mounted in are replaced. `make container` starts those of the
image and of Compose.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import redis
from dotenv import dotenv_values

from deploy.demo.servers import Tansu, Valkey, create_topics
from tests.certificates import Authority
from tests.deploy.kustomize import build, containers
from tests.integration.api_process import ApiProcess
from tests.integration.workers import Workers
from tests.servers import ApacheKafka, JavaMissingError
from tests.servers.apache_kafka import Listener
from tests.stores import Store

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
COMMAND: Final = (sys.executable, "-m", "deploy.cli.main")
PREFIX: Final = "AUTHTALLY_"
SECRETS: Final = "/run/secrets/authtally"
TOPICS: Final = (
    *("auth.logins", "auth.tokens", "auth.accounts", "auth.otp-tokens"),
    *("auth.dead-letter", "keycloak.events"),
)
HASH_KEY: Final = "a key of more than sixteen characters"
KAFKA_PASSWORD: Final = "of a test only"


class Site(NamedTuple):
    """Addresses and secrets of the servers that stand in for the shipped names."""

    kafka: str
    open_redis: str
    """For the test itself, which may do anything."""
    redis: Mapping[str, str]
    """URLs by the key of the Kubernetes Secret that holds them."""
    secrets: Path
    """The folder of mounted files."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The embedded broker and Valkey: no encryption, no users."""
    with Tansu() as broker, Valkey() as store:
        keys = ("worker-redis-url", "api-redis-url", "cache-redis-url")
        urls = dict(zip(keys, (store.url, store.url, f"{store.url[:-1]}1"), strict=True))
        create_topics(broker.address, dict.fromkeys(TOPICS, 1))
        yield Site(broker.address, store.url, urls, _mounted(tmp_path_factory.mktemp("plain"), ""))


@pytest.fixture(scope="module")
def secure_site(tmp_path_factory: pytest.TempPathFactory, redis_7_binary: Path) -> Iterator[Site]:
    """As the example overlay expects it: Kafka over SASL_SSL with SCRAM, Redis over TLS with the shipped users."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required ;"
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.sign("broker").both),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "scram-sha-512.sasl.jaas.config": scram,
    }
    try:
        kafka = ApacheKafka(
            heap_mb=256, listeners=(Listener("SCRAM", "SASL_SSL", properties),), scram={"worker": KAFKA_PASSWORD}
        )
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    with kafka, Store(binary=redis_7_binary, authority=authority) as store:
        keys = {"worker-redis-url": "worker", "api-redis-url": "api", "cache-redis-url": "cache"}
        urls = {key: store.url_of(user) for key, user in keys.items()}
        secrets = _mounted(tmp_path_factory.mktemp("secure"), authority.file.read_text())
        create_topics(kafka.address, dict.fromkeys(TOPICS, 1))
        yield Site(kafka.address_of("SCRAM"), store.url, urls, secrets)


def _mounted(folder: Path, authority: str) -> Path:
    tokens = [{"sha256": "0" * 64, "subject": "dashboard", "scopes": ["stats:read"]}]
    (folder / "tokens.json").write_text(json.dumps(tokens))
    (folder / "ca.crt").write_text(authority)
    return folder


def kubernetes(folder: str, kind: str, name: str, site: Site) -> dict[str, str]:
    """A container's variables as the kubelet makes them."""
    secrets = {
        **site.redis,
        "user-hash-key": HASH_KEY,
        "kafka-username": "worker",
        "kafka-password": KAFKA_PASSWORD,
    }
    made = {(each["kind"], each["metadata"]["name"]): each for each in build(DEPLOY / "kubernetes" / folder)}
    found: dict[str, str] = dict(made["ConfigMap", "authtally"]["data"])
    for variable in containers(made[kind, name])[0]["env"]:
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            found[variable["name"]] = secrets[source["secretKeyRef"]["key"]]
        else:
            found[variable["name"]] = f"{name}-0" if "fieldRef" in source else variable["value"]
    found[f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS"] = site.kafka
    return {key: value.replace(SECRETS, str(site.secrets)) for key, value in found.items()}


def settings_of(variables: Mapping[str, str | None], site: Site) -> dict[str, str]:
    """By the names of settings; in a group of its own, or each worker would wait for the sessions of those before."""
    found = {name.removeprefix(PREFIX).lower(): value or "" for name, value in variables.items() if PREFIX in name}
    group = f"{found.get('kafka_group', 'authtally')}.{uuid.uuid4().hex[:6]}"
    return found | {"kafka_bootstrap_servers": site.kafka, "kafka_group": group}


def starts(service: str, variables: Mapping[str, str | None], site: Site, folder: Path) -> None:
    settings = settings_of(variables, site)
    if service == "api":
        with ApiProcess(**settings) as api:
            assert api.get("/health/ready").status == 200
        return
    with redis.Redis.from_url(site.open_redis) as client:
        # Each environment has a hash key of its own.
        client.flushall()
    with Workers(folder / "workers", **settings) as workers:
        workers.start((*COMMAND, "worker")).wait_until_ready().stop()


def secrets(site: Site) -> dict[str, str]:
    return {f"{PREFIX}USER_HASH_KEY": HASH_KEY, f"{PREFIX}REDIS_URL": site.redis["worker-redis-url"]}


SERVICES: Final = {"worker": ("StatefulSet", "authtally-worker"), "api": ("Deployment", "authtally-api")}


@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_base(service: str, site: Site, tmp_path: Path) -> None:
    starts(service, kubernetes("base", *SERVICES[service], site), site, tmp_path)


@pytest.mark.apache_kafka
@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_example(service: str, secure_site: Site, tmp_path: Path) -> None:
    starts(service, kubernetes("overlays/example", *SERVICES[service], secure_site), secure_site, tmp_path)


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("worker.env")), ids=lambda path: path.parent.name)
def test_environment_files_of_workers(file: Path, site: Site, tmp_path: Path) -> None:
    starts("worker", dotenv_values(file) | secrets(site), site, tmp_path)


def test_no_environment_is_left_out() -> None:
    # A new overlay, or a new environment file of ours, needs a test above.
    # The component of monitors has no containers.
    assert {path.parent.name for path in DEPLOY.rglob("kustomization.yaml")} == {"base", "example", "monitoring"}
    files = [path for path in DEPLOY.rglob("*.env") if PREFIX in path.read_text(encoding="utf-8")]
    assert {path.name for path in files} == {"worker.env"}
