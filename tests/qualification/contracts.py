"""Differences between the contracts of a revision and those of this tree: `make contracts REV=<commit>`.

Contracts are the names and values that users depend on: OpenAPI, JSON Schemas, metrics, Redis keys and fields,
settings, commands, dead-letter reasons, checks of the doctor, alerts. Sentences are left out. Modules are found by
their contents, so that a revision may have another layout. Each tree is read by a process of its own, with this Python
and its packages.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import json
import pkgutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("aggregator", "api", "deploy", "schemas")
SENTENCES: Final = {"description", "summary"}
PREFIX: Final = "P:"


class Hole(int):
    """A number that is formatted as `*`."""

    def __format__(self, spec: str) -> str:
        return "*"

    def __str__(self) -> str:
        return "*"


def modules() -> Iterator[ModuleType]:
    """Every module of the packages that can be imported without being run."""
    for package in PACKAGES:
        found = importlib.import_module(package)
        for each in pkgutil.walk_packages(found.__path__, f"{package}."):
            if each.name.rpartition(".")[2] not in ("__main__", "tether"):
                yield importlib.import_module(each.name)


def read_contracts(root: Path) -> dict[str, str]:
    """The contracts of the tree at `root`, as a path of names to a value. `root` must be first in sys.path."""
    loaded = {module.__name__: module for module in modules()}
    values = [*loaded.values()]
    return {
        **flatten("openapi", _without_sentences(_openapi(loaded))),
        **flatten("json schema", _without_sentences(_json_schemas(root))),
        **flatten("metric", _metrics(values) | _written_metrics(root)),
        **flatten("setting", _settings(values)),
        **flatten("command", _commands(values)),
        **_present("redis key", _redis_keys(values)),
        **_present("redis field", _redis_fields(loaded)),
        **_present("dead-letter reason", _attribute(values, "REASONS")),
        **_present("doctor check", _attribute(values, "CHECKS")),
        **_present("alert", _alerts(root)),
    }


def _present(kind: str, names: Any) -> dict[str, str]:
    return {f"{kind} {name}": json.dumps("present") for name in sorted(names)}


def flatten(path: str, value: Any) -> dict[str, str]:
    """Each leaf of nested mappings and lists under its path. A list of plain values is one leaf."""
    if isinstance(value, Mapping) and value:
        return {key: leaf for name in value for key, leaf in flatten(f"{path} {name}", value[name]).items()}
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        named = {
            each.get("name", number) if isinstance(each, dict) else number: each for number, each in enumerate(value)
        }
        return flatten(path, named)
    return {path: json.dumps(value, default=str, ensure_ascii=False)}


def _without_sentences(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_sentences(each)
            for name, each in value.items()
            # A property may have one of these names: it is a schema, not a sentence.
            if not (name in SENTENCES and isinstance(each, str))
        }
    return [_without_sentences(each) for each in value] if isinstance(value, list) else value


def _openapi(loaded: Mapping[str, ModuleType]) -> dict[str, Any]:
    document: Any = loaded["api.dialects.own.openapi"].__dict__["document"]
    full: dict[str, Any] = document(ingest=True)
    return full


def _json_schemas(root: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_bytes()) for path in sorted((root / "schemas" / "json").glob("*.json"))}


def _metrics(values: list[ModuleType]) -> dict[str, Any]:
    from prometheus_client.metrics import MetricWrapperBase

    found = {}
    for module in values:
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                found[metric._name] = {"type": metric._type, "labels": list(metric._labelnames)}
    return found


def _written_metrics(root: Path) -> dict[str, Any]:
    """Metrics that are built for each scrape, such as the gauges of `/v1/metrics`: read from the source."""
    found: dict[str, Any] = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= _metrics_built_in(function)
    return found


def _metrics_built_in(function: ast.AST) -> dict[str, Any]:
    found = {}
    assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    values = {ast.unparse(node.targets[0]): node.value for node in assigned}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("MetricFamily") and node.args:
            labels = next((each.value for each in node.keywords if each.arg == "labels"), None)
            found[ast.unparse(node.args[0]).strip("'")] = {
                "type": ast.unparse(node.func),
                "labels": ast.unparse(_inline(labels, values)) if labels is not None else "",
            }
    return found


def _inline(labels: ast.expr, values: Mapping[str, ast.expr]) -> ast.expr:
    """A list of labels, with a variable replaced by the list that is assigned to it."""
    if isinstance(labels, ast.Name):
        return values.get(labels.id, labels)
    if isinstance(labels, ast.List):
        inlined = [
            each
            for one in labels.elts
            for each in (getattr(_inline(one.value, values), "elts", [one]) if isinstance(one, ast.Starred) else [one])
        ]
        return ast.List(inlined, ast.Load())
    return labels


def _settings(values: list[ModuleType]) -> dict[str, Any]:
    from pydantic_settings import BaseSettings

    found: dict[str, Any] = {}
    for module in values:
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and issubclass(kind, BaseSettings) and kind.__module__ == module.__name__:
                found[name] = {field: _default(info) for field, info in kind.model_fields.items()}
    # No code reads base classes by themselves; their fields are in the classes of the services.
    return {name: found[name] for name in ("WorkerSettings", "ApiSettings", "PublishSettings", "ReportSettings")}


def _default(info: Any) -> Any:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    value = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _commands(values: list[ModuleType]) -> dict[str, Any]:
    import click

    (group,) = {
        id(module.__dict__["main"]): module.__dict__["main"]
        for module in values
        if module.__name__.startswith("deploy.") and isinstance(module.__dict__.get("main"), click.Group)
    }.values()
    return dict(_walk(group, "authtally"))


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    parameters = {" ".join(sorted((*each.opts, *each.secondary_opts))): _parameter(each) for each in command.params}
    yield path, parameters
    for name, each in getattr(command, "commands", {}).items():
        yield from _walk(each, f"{path} {name}")


def _parameter(parameter: Any) -> str:
    kind = parameter.type
    range_ = f" from {kind.min} to {kind.max}" if hasattr(kind, "min") else ""
    choices = f" of {', '.join(kind.choices)}" if hasattr(kind, "choices") else ""
    words = [
        f"{parameter.param_type_name}, {kind.name}{range_}{choices}",
        f"default {parameter.default}",
        *(["required"] if parameter.required else []),
        *(["repeated"] if getattr(parameter, "multiple", False) or parameter.nargs != 1 else []),
        *([f"environment {parameter.envvar}"] if parameter.envvar else []),
    ]
    return "; ".join(words)


def _redis_keys(values: list[ModuleType]) -> set[str]:
    (module,) = {
        module.__name__: module
        for module in values
        if "ShardKeys" in vars(module) and module.__dict__["ShardKeys"].__module__ == module.__name__
    }.values()
    scope = module.__dict__["Scope"]("*", ("*",))
    keys = module.__dict__["ShardKeys"](PREFIX, module.__dict__["Shard"]("topic", 0))
    found = {value for value in vars(keys).values() if isinstance(value, str)}
    methods = [getattr(keys, name) for name in dir(keys) if not name.startswith("_")]
    functions = [
        each for each in vars(module).values() if inspect.isfunction(each) and each.__module__ == module.__name__
    ]
    for function in (*methods, *functions):
        if callable(function):
            found |= _texts(function, scope)
    return {text for text in found if text.startswith(PREFIX)}


def _redis_fields(loaded: Mapping[str, ModuleType]) -> set[str]:
    (module,) = (each for name, each in loaded.items() if name.endswith(".fields") and hasattr(each, "CONSUMED"))
    constants = {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    functions = [each for each in vars(module).values() if callable(each) and not inspect.isclass(each)]
    ours = [each for each in functions if getattr(each, "__module__", "") == module.__name__]
    return constants.union(*(_texts(each, None) for each in ours))


def _texts(function: Any, scope: Any) -> set[str]:
    """The texts that a builder of keys or fields returns, with `*` for each of its arguments."""
    arguments: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = str(parameter.annotation)
        if parameter.name == "prefix":
            arguments.append(PREFIX)
        else:
            arguments.append({"int": Hole(7), "Scope": scope, "Iterable[int]": [Hole(7)]}.get(kind, "*"))
    try:
        result = function(*arguments)
    except (ValueError, AttributeError):  # It parses a key or field.
        return set()
    texts = result if isinstance(result, list) else [result]
    return {text.replace("%2A", "*") for text in texts if isinstance(text, str)}


def _attribute(values: list[ModuleType], name: str) -> set[str]:
    return {key for module in values if isinstance(module.__dict__.get(name), dict) for key in module.__dict__[name]}


def _alerts(root: Path) -> set[str]:
    import yaml

    rules = yaml.safe_load((root / "deploy" / "observability" / "alerts.yaml").read_text(encoding="utf-8"))
    return {f"{rule['alert']} ({rule['labels']['severity']})" for group in rules["groups"] for rule in group["rules"]}


def contracts_of(root: Path) -> dict[str, str]:
    """`read_contracts` in a process of its own: two trees cannot be imported into one."""
    command = (sys.executable, str(Path(__file__).resolve()), "--read")
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{root}: {done.stderr}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """One line per change: `-` gone, `+` new, `!` changed."""
    lines = [f"- {name}: {old[name]}" for name in old if name not in new]
    lines += [f"+ {name}: {new[name]}" for name in new if name not in old]
    lines += [f"! {name}: {old[name]} -> {new[name]}" for name in old if name in new and old[name] != new[name]]
    return sorted(lines, key=lambda line: (line[2:], line[0]))


def main(revision: str) -> int:
    archive = subprocess.run(("git", "archive", revision, *PACKAGES), cwd=ROOT, capture_output=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        found = differences(contracts_of(Path(folder)), contracts_of(ROOT))
    print("\n".join(found) or f"The contracts are those of {revision}.")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--read"]:
        # Python put the folder of this file here. Its modules could hide others of the same name.
        sys.path[0] = str(Path.cwd())
        json.dump(read_contracts(Path.cwd()), sys.stdout)
    elif len(sys.argv) == 2:
        sys.exit(main(sys.argv[1]))
    else:
        sys.exit("usage: python -m tests.qualification.contracts REVISION")
