"""The process itself: its settings, its start, its health, its metrics."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import REGISTRY
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey, free_port
from schemas.settings import SettingsError, read
from tests.api.conftest import Serve
from tests.conftest import wait_until
from tests.servers.prometheus import ACCEPTS


def faults_of(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(f"AUTHTALLY_{name}", value)
    with pytest.raises(SettingsError) as raised:
        read(ApiSettings, _env_file=None)
    return raised.value.errors


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ["AUTH"]),
        ({"AUTH": ""}, ["AUTH"]),
        ({"AUTH": "password"}, ["AUTH"]),
        ({"AUTH": "none,jwt"}, ["AUTH"]),
        ({"AUTH": "jwt"}, ["AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_URL"]),
        ({"AUTH": "introspection"}, ["AUTH_INTROSPECTION_URL", "AUTH_CLIENT_ID", "AUTH_CLIENT_SECRET"]),
        ({"AUTH": "static"}, ["AUTH_TOKENS_FILE"]),
        ({"AUTH": "static", "AUTH_TOKENS_FILE": "/nowhere/tokens.json"}, ["AUTH_TOKENS_FILE"]),
        (
            {"AUTH": "jwt,static", "AUTH_JWKS_URL": "ftp://x", "API_PORT": "99999", "JANSSEN_SHAPE": "round"},
            ["API_PORT", "AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_URL", "AUTH_TOKENS_FILE", "JANSSEN_SHAPE"],
        ),
    ],
)
def test_all_faults_are_reported_at_once_by_name(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: list[str]
) -> None:
    faults = faults_of(monkeypatch, **environment)
    assert [error.partition(":")[0] for error in faults] == [f"AUTHTALLY_{name}" for name in named]


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '[{"sha256": "short", "subject": "x", "scopes": []}]', '[{"sha256": "', '[{"subject": "x"}]'],
)
def test_a_bad_tokens_file_is_a_fault_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    (error,) = faults_of(monkeypatch, AUTH="static", AUTH_TOKENS_FILE=str(path))
    assert error.startswith(f"AUTHTALLY_AUTH_TOKENS_FILE: {path}")


def test_every_setting_has_one_sentence() -> None:
    for name, field in ApiSettings.model_fields.items():
        assert (field.description or "").endswith("."), name


async def test_liveness_and_readiness(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    assert (await api.get("/health/live")).json == {"status": "live"}
    assert (await api.get("/health/ready")).json == {"status": "ready"}


def sample(families: list[Metric], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_metrics_count_requests_and_where_answers_came_from(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)

    async def now() -> list[Metric]:
        return list(text_string_to_metric_families((await api.get("/metrics")).text))

    before = await now()
    path = "/jans-auth/restv1/internal/stat"
    for query in ("?month=202611", "?month=202611", "?month=202611", ""):
        await api.get(path + query)
    after = await now()

    def grown(name: str, **labels: str) -> float:
        return sample(after, name, **labels) - sample(before, name, **labels)

    assert grown("authtally_api_requests_total", dialect="janssen", status="2xx") == 3
    assert grown("authtally_api_requests_total", dialect="janssen", status="4xx") == 1
    assert grown("authtally_api_cache_answers_total", source="miss") == 1
    assert grown("authtally_api_cache_answers_total", source="hit") == 2
    assert grown("authtally_api_request_seconds_count", dialect="janssen") == 2, "those that were not ready"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (ACCEPTS[2], "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        (ACCEPTS[3], "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html,*/*;q=0.8", "text/plain; version=0.0.4; charset=utf-8"),
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=new", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=x", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_metrics_are_in_the_format_that_the_scraper_prefers(
    serve: Serve, redis_url: str, accept: str | None, content_type: str
) -> None:
    api = await serve(redis_url=redis_url)
    answer = await api.get("/metrics", headers={"Accept": accept} if accept else {})
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    read_text = openmetrics_families if "openmetrics" in content_type else text_string_to_metric_families
    assert "authtally_api_requests" in {family.name for family in read_text(answer.text)}


def test_metrics_show_no_figures_of_users_or_tokens() -> None:
    names = {family.name for family in REGISTRY.collect()}
    assert not [name for name in names if "user" in name or "token" in name]


def environment(**settings: object) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin"} | {f"AUTHTALLY_{name}": str(value) for name, value in settings.items()}


def run(folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api", *arguments],
        env=environment(**settings) | {"PYTHONPATH": str(Path.cwd())},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_wrong_settings_end_the_process_with_2(tmp_path: Path) -> None:
    done = run(tmp_path, AUTH="jwt", API_PORT="x")
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "AUTHTALLY_API_PORT",
        "AUTHTALLY_AUTH_ISSUER",
        "AUTHTALLY_AUTH_AUDIENCE",
        "AUTHTALLY_AUTH_JWKS_URL",
    ]


def test_check_prints_the_effective_settings_without_secrets(tmp_path: Path) -> None:
    done = run(tmp_path, "--check", AUTH="none", REDIS_URL="redis://:hush@127.0.0.1:1/0", AUTH_CLIENT_SECRET="hush")
    assert done.returncode == 0
    assert "AUTHTALLY_JANSSEN_CACHE_TTL_S=3600\n" in done.stdout
    assert "hush" not in done.stdout


def test_a_wrong_password_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    with Valkey(password="right") as server:
        url = server.url.replace("right", "wrong")
        done = run(tmp_path, AUTH="none", REDIS_URL=url, API_PORT=0)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["AUTHTALLY_REDIS_URL: Redis refuses this user or password"]


def test_the_process_answers_and_stops_cleanly_on_sigterm(tmp_path: Path, redis_url: str) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env=environment(AUTH="none", REDIS_URL=redis_url, API_PORT=port, LOG_FORMAT="json")
        | {"PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )

    def answered() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    try:
        wait_until(answered, timeout_s=20)
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            first_line = stranger.makefile("rb").readline()
    finally:
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b" 400 " in first_line
    # Nothing else: a stranger who speaks no HTTP leaves no line.
    assert [json.loads(line)["event"] for line in logged.splitlines()] == [
        "answering everybody",
        "listening",
        "stopping",
    ]


def test_importing_opens_nothing_and_reads_no_environment(tmp_path: Path) -> None:
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('opened')\n"
        "socket.socket.connect = refuse\n"
        "import api.__main__\n"
        "assert 'faust' not in sys.modules and 'aggregator' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(AUTH="nonsense") | {"PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
