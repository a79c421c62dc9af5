"""Generators of clients take `/openapi.json` unchanged, and their clients work against a running api."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import openapi_generator_cli
import pytest

from api.dialects.own import openapi
from deploy.demo.servers import Tansu, Valkey
from tests.api.dialects.own import examples
from tests.servers import java, node

TIMEOUT_S: Final = 240


@pytest.fixture(scope="module")
def url(valkey: Valkey, tansu: Tansu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with examples.served(valkey.url, tansu.address, tmp_path_factory.mktemp("access") / "tokens.json") as served:
        yield served


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(openapi.document(ingest=True, regions=True)), encoding="utf-8")
    return path


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def client_package(document: Path) -> Iterator[str]:
    """The name of the package that openapi-python-client generates; a warning is a failure."""
    folder, name = document.parent, "generated_client"
    command = ("openapi-python-client", "generate", "--path", document, "--meta", "none", "--fail-on-warning")
    run(*command, "--output-path", folder / name, cwd=folder)
    sys.path.insert(0, str(folder))
    yield name
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def python_client(client_package: str, url: str) -> Iterator[Any]:
    client: Any = importlib.import_module(f"{client_package}.client")
    with client.AuthenticatedClient(base_url=url, token=examples.TOKEN, timeout=30) as opened:
        yield opened


def operation(package: str, tag: str, name: str) -> ModuleType:
    return importlib.import_module(f"{package}.api.{tag}.{name}")


def test_the_python_client_reads_figures(client_package: str, python_client: Any) -> None:
    overview = operation(client_package, "statistics", "overview").sync(client=python_client, date=date(2026, 11, 20))
    assert (overview.date, overview.dau.value, overview.dau.previous.value) == (date(2026, 11, 20), 1, 0)
    assert overview.activity.day.failed_logins_by_reason.additional_properties == {"locked": 1}
    assert len(overview.months) == 12
    models: Any = importlib.import_module(f"{client_package}.models")
    logins = operation(client_package, "statistics", "logins").sync(
        client=python_client,
        granularity=models.LoginsGranularity.MONTH,
        from_=date(2026, 10, 1),
        to=date(2026, 11, 30),
    )
    found = [(item.period, item.succeeded, item.failed) for item in logins.items]
    assert found == [
        ("2026-10", 2, 0),
        ("2026-11", 1, 1),
    ]


def test_the_python_client_reads_an_error(client_package: str, python_client: Any) -> None:
    labels = operation(client_package, "statistics", "labels")
    problem = labels.sync(client=python_client, realm="x" * 257)
    assert (problem.status, problem.parameter) == (400, "realm")


def test_the_python_client_sends_events(client_package: str, python_client: Any) -> None:
    models: Any = importlib.import_module(f"{client_package}.models")
    time = datetime.fromisoformat("2026-11-20T10:00:00+00:00")
    login = models.Login(type_=models.LoginType.LOGIN, time=time, user_id="ada", id="python:1")
    taken = operation(client_package, "ingest", "send_events").sync(client=python_client, body=[login, login])
    assert (taken.accepted, taken.ignored, taken.rejected) == (2, 0, [])


def same_times(answer: Any) -> Any:
    """The answer with its times as the client writes them."""
    return json.loads(re.sub(r'\.000Z"', '+00:00"', json.dumps(answer)))


@pytest.mark.parametrize("asked", examples.REQUESTS, ids=lambda asked: asked.operation)
def test_the_python_client_parses_every_example(client_package: str, asked: examples.Request) -> None:
    """The answer of each route, through the model that was generated for it and back."""
    recorded = openapi.examples()[asked.operation]
    schema = next(
        methods[asked.method.lower()]["responses"][recorded["status"]]["content"][recorded["media"]]["schema"]
        for methods in openapi.document(ingest=True, regions=True)["paths"].values()
        if methods.get(asked.method.lower(), {}).get("operationId") == asked.operation
    )
    if "$ref" in schema:
        # The generator has a style of its own for names such as M2m.
        models = {
            name.lower(): model for name, model in vars(importlib.import_module(f"{client_package}.models")).items()
        }
        model = models[schema["$ref"].rpartition("/")[2].lower()]
        assert same_times(model.from_dict(recorded["answer"]).to_dict()) == same_times(recorded["answer"])
    else:
        assert {"type", "anyOf"} & schema.keys()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    try:
        return node.install(node.CLIENTS) / "node_modules"
    except node.NodeMissingError as missing:
        pytest.skip(str(missing))


def test_the_typescript_types_work(document: Path, url: str, node_modules: Path, tmp_path: Path) -> None:
    """Compiled strictly and run: the types fit what is sent and read."""
    for name in ("ask.ts", "tsconfig.json"):
        shutil.copy(node.CLIENTS / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    tools = node_modules / ".bin"
    run(tools / "openapi-typescript", document, "--output", "api.d.ts", cwd=tmp_path)
    run(tools / "tsc", "--project", ".", cwd=tmp_path)
    printed = run("node", "ask.js", cwd=tmp_path, AUTHTALLY_URL=url, AUTHTALLY_TOKEN=examples.TOKEN)
    assert json.loads(printed) == {"accepted": 1, "users": 1, "failed": [1], "signups": [1]}


def test_the_validator_of_openapi_generator_finds_no_error(document: Path) -> None:
    try:
        program = java.java()
    except java.JavaMissingError as missing:
        pytest.skip(str(missing))
    jar = Path(openapi_generator_cli.__file__).with_name("openapi-generator.jar")
    printed = run(program, "-jar", jar, "validate", "--input-spec", document, cwd=document.parent)
    assert "Errors:" not in printed
