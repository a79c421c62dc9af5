"""Kafka with TLS and each way of signing in, counted through to the end; and each fault by the setting to blame."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import KafkaException

from aggregator.kafka.admin import KafkaAdmin
from aggregator.settings import WorkerSettings
from deploy.demo.servers import Valkey
from tests.aggregator import ledgers
from tests.certificates import Authority
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker, Site
from tests.integration.token_endpoint import TokenEndpoint
from tests.integration.workers import WorkerProcess
from tests.servers import ApacheKafka, JavaMissingError
from tests.servers.apache_kafka import Listener

pytestmark = pytest.mark.apache_kafka

SECURITY: Final = "org.apache.kafka.common.security"
PASSWORD: Final = "correct horse battery"
KEY_PASSWORD: Final = "staple of the key"
SECRETS: Final = (PASSWORD, KEY_PASSWORD, TokenEndpoint.client_secret)
REAUTH_MS: Final = 3000
"""After which the broker wants to see a fresh token, or closes the connection."""
ROOT: Final = Path(__file__).parents[2]


class Secured:
    """A broker with a listener for each way, the authority behind its certificates, and its token endpoint."""

    def __init__(self, folder: Path, tokens: TokenEndpoint) -> None:
        self.folder, self.tokens = folder, tokens
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "stranger")
        good = self._certificate("broker")
        self.kafka = ApacheKafka(
            heap_mb=256,
            listeners=(
                Listener("MTLS", "SSL", {**good, "ssl.client.auth": "required"}),
                Listener("SCRAM", "SASL_SSL", {**good, **_sasl("SCRAM-SHA-256", "SCRAM-SHA-512")}),
                Listener("OAUTH", "SASL_SSL", {**good, **self._oauth()}),
                Listener("ELSEWHERE", "SSL", self._certificate("elsewhere", host="broker.example")),
                Listener("EXPIRED", "SSL", self._certificate("expired", days=-1)),
            ),
            scram={"counts": PASSWORD},
            system=(f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.jwks_url}",),
        )
        self.client = self.authority.sign("client", password=KEY_PASSWORD)
        self.expired = self.authority.sign("expired-client", days=-1)
        self.unknown = self.stranger.sign("unknown-client")

    def _certificate(self, name: str, **more: Any) -> dict[str, str]:
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.authority.sign(name, **more).both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.file),
        }

    def _oauth(self) -> dict[str, str]:
        validator = f"{SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        return _sasl("OAUTHBEARER") | {
            "oauthbearer.sasl.server.callback.handler.class": validator,
            "oauthbearer.sasl.oauthbearer.jwks.endpoint.url": self.tokens.jwks_url,
            "oauthbearer.sasl.oauthbearer.expected.audience": self.tokens.audience,
            "oauthbearer.sasl.oauthbearer.expected.issuer": self.tokens.url,
            "oauthbearer.connections.max.reauth.ms": str(REAUTH_MS),
        }

    def way(self, name: str, **more: str) -> dict[str, str]:
        """Settings that sign in at a listener."""
        found = {"kafka_ssl_cafile": str(self.authority.file), "kafka_security_protocol": "SASL_SSL"}
        if name == "mtls":
            found |= {
                "kafka_security_protocol": "SSL",
                "kafka_ssl_certfile": str(self.client.certificate),
                "kafka_ssl_keyfile": str(self.client.key),
                "kafka_ssl_key_password": KEY_PASSWORD,
            }
        elif name == "oauth":
            found |= {
                "kafka_sasl_mechanism": "OAUTHBEARER",
                "kafka_oauth_token_url": self.tokens.token_url,
                "kafka_oauth_client_id": self.tokens.client_id,
                "kafka_oauth_client_secret": self.tokens.client_secret,
                "kafka_oauth_scope": "events",
            }
        else:
            found |= {
                "kafka_sasl_mechanism": f"SCRAM-SHA-{name.removeprefix('scram-')}",
                "kafka_sasl_username": "counts",
                "kafka_sasl_password": PASSWORD,
            }
        listener = name.partition("-")[0].upper()
        return found | {"kafka_bootstrap_servers": self.kafka.address_of(listener)} | more


def _sasl(*mechanisms: str) -> dict[str, str]:
    modules = {"O": "oauthbearer.OAuthBearerLoginModule", "S": "scram.ScramLoginModule"}
    found = {"sasl.enabled.mechanisms": ",".join(mechanisms)}
    for name in mechanisms:
        found[f"{name.lower()}.sasl.jaas.config"] = f"{SECURITY}.{modules[name[0]]} required ;"
    return found


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with TokenEndpoint(lifetime_s=6) as tokens:
        try:
            secured = Secured(tmp_path_factory.mktemp("secured"), tokens)
        except JavaMissingError as missing:
            pytest.skip(str(missing))
        with secured.kafka:
            yield secured


@pytest.fixture
def site(secured: Secured, make_site: MakeSite) -> Site:
    # Tests publish and look on through the open listener.
    return make_site(Broker(secured.kafka.address, apache=True), partitions=1)


def keeps_secrets(worker: WorkerProcess) -> bool:
    return not any(secret in worker.log for secret in SECRETS)


@pytest.mark.parametrize("name", ["mtls", "scram-256", "scram-512", "oauth"])
def test_a_worker_counts_and_sends_dead_letters_through_each_way(secured: Secured, site: Site, name: str) -> None:
    worker = site.workers.start(**secured.way(name)).wait_until_ready()
    site.publisher.publish(500)
    site.publisher.send_bad(site.shards[0], b"nope", "not_json")
    site.publisher.flush()
    assert site.differences() == []
    assert worker.metric("authtally_dead_letters_total") == 1
    worker.stop()
    assert keeps_secrets(worker)


@pytest.mark.parametrize("name", ["mtls", "scram-512", "oauth"])
def test_events_reach_kafka_by_http_and_by_publish_through_each_way(
    secured: Secured, valkey: Valkey, site: Site, tmp_path: Path, name: str
) -> None:
    source = secured.way(name) | {"topics": f"{site.logins}=login", "redis_url": valkey.url}
    event = '{"type":"login","time":"2026-11-20T10:00:00Z","user_id":"alice"}\n'
    with ApiProcess(auth="none", auth_none_writes="on", ingest="on", **source) as api:
        assert (
            api.post("/v1/events", [{"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "al"}]).status == 202
        )
        assert not any(secret in api.log.read_text() for secret in SECRETS)
    (tmp_path / "events.jsonl").write_text(event)
    environment = {f"AUTHTALLY_{setting.upper()}": value for setting, value in source.items()}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-m", "deploy.cli.main", "publish", "events.jsonl")

    def publish(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment | more, cwd=tmp_path, check=False, timeout=60, capture_output=True, text=True
        )

    done = publish()
    assert done.returncode == 0, done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
    assert site.log_ends()[site.shards[0]] == 2
    if name == "scram-512":
        refused = publish(AUTHTALLY_KAFKA_SASL_PASSWORD="wrong")
        assert refused.returncode != 0
        assert "AUTHTALLY_KAFKA_SASL_PASSWORD: refused by the broker" in refused.stderr


def test_tokens_are_renewed_in_time_and_an_endpoint_that_was_away_is_asked_again(secured: Secured, site: Site) -> None:
    tokens = secured.tokens
    tokens.refuses_with = 500
    try:
        worker = site.workers.start(**secured.way("oauth"))
        worker.wait_until_troubled("AUTHTALLY_KAFKA_OAUTH_TOKEN_URL", "500")
    finally:
        tokens.refuses_with = None
    worker.wait_until_ready()
    with site.publisher.flow(events_per_s=200, batch=20):
        before = len(tokens.issued)
        # The broker closes a connection whose token is over: several generations of tokens and connections.
        wait_until(lambda: len(tokens.issued) > before + 2, 60, "tokens are renewed")
        site.wait_until_moved()
        tokens.refuses_with = 503
        try:
            result = worker.wait_until_troubled("AUTHTALLY_KAFKA_OAUTH_TOKEN_URL", "503", timeout_s=60)
        finally:
            tokens.refuses_with = None
        assert "partition" not in result
        site.wait_until_moved()
        worker.wait_until_ready()
    assert site.differences() == []
    assert {form["scope"] for form in tokens.issued} == {"events"}
    assert keeps_secrets(worker)


def faults(secured: Secured) -> dict[str, tuple[dict[str, str], tuple[str, ...]]]:
    """Settings with one fault each, and what readiness must name for it."""
    clear = {"kafka_security_protocol": "PLAINTEXT", "kafka_ssl_cafile": ""}
    without_sasl = {"kafka_sasl_mechanism": "", "kafka_sasl_username": "", "kafka_sasl_password": ""}
    certificate = {"kafka_security_protocol": "SSL", **without_sasl}

    def shown(one: Any) -> dict[str, str]:
        files = {"kafka_ssl_certfile": str(one.certificate), "kafka_ssl_keyfile": str(one.key)}
        return secured.way("mtls", kafka_ssl_key_password="", **files)

    def at(listener: str) -> dict[str, str]:
        return {"kafka_bootstrap_servers": secured.kafka.address_of(listener)}

    return {
        "another authority": (
            secured.way("scram-512", kafka_ssl_cafile=str(secured.stranger.file)),
            ("AUTHTALLY_KAFKA_SSL_CAFILE",),
        ),
        "the system's authorities": (secured.way("scram-512", kafka_ssl_cafile=""), ("AUTHTALLY_KAFKA_SSL_CAFILE",)),
        "a broker's certificate for another host": (
            secured.way("mtls", **at("ELSEWHERE")),
            ("AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS", "other host names"),
        ),
        "a broker's certificate that is over": (
            secured.way("mtls", **at("EXPIRED")),
            ("AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS", "expired"),
        ),
        "our certificate is over": (shown(secured.expired), ("AUTHTALLY_KAFKA_SSL_CERTFILE", "refuses it")),
        "our certificate is a stranger's": (shown(secured.unknown), ("AUTHTALLY_KAFKA_SSL_CERTFILE", "refuses it")),
        "no certificate where one is asked for": (
            secured.way("scram-512", **certificate, **at("MTLS")),
            ("AUTHTALLY_KAFKA_SSL_CERTFILE", "is not set"),
        ),
        "TLS to a port in the clear": (
            secured.way("scram-512", kafka_bootstrap_servers=secured.kafka.address),
            ("AUTHTALLY_KAFKA_SECURITY_PROTOCOL", "does not speak TLS"),
        ),
        "in the clear to a port of TLS": (
            secured.way("scram-512", **clear, **without_sasl),
            ("AUTHTALLY_KAFKA_SECURITY_PROTOCOL", "speaks TLS"),
        ),
        "no SASL to a port of SASL": (secured.way("scram-512", **certificate), ("AUTHTALLY_KAFKA_SECURITY_PROTOCOL",)),
        "SASL to a port without": (
            secured.way("scram-512", **clear | {"kafka_security_protocol": "SASL_PLAINTEXT"})
            | {"kafka_bootstrap_servers": secured.kafka.address},
            ("AUTHTALLY_KAFKA_SECURITY_PROTOCOL", "does not support SASL"),
        ),
        "a wrong password": (
            secured.way("scram-512", kafka_sasl_password="wrong"),
            ("AUTHTALLY_KAFKA_SASL_USERNAME", "AUTHTALLY_KAFKA_SASL_PASSWORD"),
        ),
        "a mechanism that the broker does not know": (
            secured.way("scram-512", kafka_sasl_mechanism="PLAIN"),
            ("AUTHTALLY_KAFKA_SASL_MECHANISM=PLAIN", "SCRAM-SHA-512"),
        ),
        "a wrong secret": (
            secured.way("oauth", kafka_oauth_client_secret="wrong"),
            ("AUTHTALLY_KAFKA_OAUTH_CLIENT_SECRET", "401"),
        ),
        "no endpoint": (
            secured.way("oauth", kafka_oauth_token_url="http://127.0.0.1:1/token"),
            ("AUTHTALLY_KAFKA_OAUTH_TOKEN_URL", "refused"),
        ),
    }


def errors_of(settings: WorkerSettings) -> str:
    """What the admin client finds to be wrong."""
    admin = KafkaAdmin(settings)
    with pytest.raises(KafkaException) as failed:
        admin.client.list_topics(timeout=3)
    return admin.diagnose(failed.value)


def test_each_fault_names_its_setting(secured: Secured) -> None:
    table = faults(secured)
    settings = [ledgers.settings("redis://127.0.0.1:1", **given) for given, _ in table.values()]
    with ThreadPoolExecutor(len(table)) as pool:
        for (error, (_, named)), text in zip(table.items(), pool.map(errors_of, settings), strict=True):
            assert all(name in text for name in named), (error, text)
            assert not any(secret in text for secret in SECRETS)


def test_a_worker_with_a_fault_says_so_and_stays_to_try_again(secured: Secured, site: Site) -> None:
    table = faults(secured)
    some = ("a wrong password", "our certificate is over")
    workers = {error: site.workers.start(**table[error][0]) for error in some}
    for error, worker in workers.items():
        worker.wait_until_troubled(*table[error][1])
    for worker in workers.values():
        assert worker.running
        assert worker.alive()
        assert keeps_secrets(worker)
        assert "Traceback" not in worker.log
