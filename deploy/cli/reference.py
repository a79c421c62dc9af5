"""Generates parts of the documentation: `python -m deploy.cli.reference` (`make docs`) writes them into the pages.

A page has a generated part between `<!-- generated: NAME -->` and `<!-- end -->`. The rest is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aggregator import metrics as worker_metrics
from aggregator.settings import WorkerSettings
from api import metrics as api_metrics
from api.settings.settings import ApiSettings
from deploy import capacity
from deploy.cli.doctor.findings import CHECKS
from deploy.cli.main import main as authtally
from schemas.events import REASONS
from schemas.ledger import keys

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "deploy" / "observability" / "alerts.yaml"
EXAMPLES: Final = {
    "curl": ("publish_http.sh",),
    "Python": ("publish_http.py", "publish_kafka.py"),
    "JavaScript": ("publish_http.mjs", "publish_kafka.mjs"),
    "Java": ("PublishHttp.java", "PublishKafka.java"),
    "Go": ("go/http/main.go", "go/kafka/main.go"),
}
PART: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> str:
    """One table per service: name without prefix, default, one sentence."""
    worker, api = WorkerSettings.model_fields, ApiSettings.model_fields
    both = {name: field for name, field in worker.items() if name in api}
    return "\n\n".join(
        (
            "## Worker and api\n\n" + _settings_table(both),
            "## Worker\n\n" + _settings_table({name: field for name, field in worker.items() if name not in api}),
            "## Api\n\n" + _settings_table({name: field for name, field in api.items() if name not in worker}),
        )
    )


def _settings_table(fields: dict[str, FieldInfo]) -> str:
    rows = ["| `AUTHTALLY_…` | default | meaning |", "|---|---|---|"]
    rows += (
        f"| `{name.upper()}` | {_default(field.default)} | {field.description} |" for name, field in fields.items()
    )
    return "\n".join(rows)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, dict):
        value = ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = str(value).lower()
    return "" if value in ("", None) else f"`{value}`"


def metrics() -> str:
    """One row per metric: name, labels, one sentence."""
    rows = ["| metric | labels | meaning |", "|---|---|---|"]
    for module in (worker_metrics, api_metrics):
        for metric in _metrics_of(module):
            name: str = metric._name + ("_total" if isinstance(metric, Counter) else "")
            kind = " (histogram)" if isinstance(metric, Histogram) else ""
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append(f"| `{name}`{kind} | {labels} | {metric._documentation} |")
    return "\n".join(rows)


def _metrics_of(module: Any) -> Iterator[MetricWrapperBase]:
    return (found for found in vars(module).values() if isinstance(found, MetricWrapperBase))


def alerts() -> str:
    """One row per alert rule. N stands for values that Prometheus fills in."""
    rows = ["| alert | severity | after | meaning | action |", "|---|---|---|---|---|"]
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            notes = rule["annotations"]
            meaning, action = (re.sub(r"\{\{.*?\}\}", "N", notes[name]) for name in ("description", "runbook"))
            rows.append(
                f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', '0m')} | {meaning} | {action} |"
            )
    return "\n".join(rows)


def commands() -> str:
    """One section per command: usage, its first sentence, options, exit status."""
    return "\n\n".join(_section(path, command) for path, command in walk(authtally))


def walk(group: click.Group, path: tuple[str, ...] = ("authtally",)) -> Iterator[tuple[str, click.Command]]:
    """Every command that is not a group, with its full name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join((path, *command.collect_usage_pieces(context)))
    result = (command.help or "").split("\n\n")
    status = [" ".join(part.split()) for part in result if part.lstrip().startswith("Exit status:")]
    rows = [_option(parameter, context) for parameter in command.params if isinstance(parameter, click.Option)]
    table = ["\n".join(("| option | meaning |", "|---|---|", *rows))] if rows else []
    return "\n\n".join((f"## {path}", f"`{usage}`", " ".join(result[0].split()), *table, *status))


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    names, meaning = (re.sub(r"\s+", " ", text).replace("|", "\\|") for text in record)
    return f"| `{names}` | {meaning} |"


def ledger_keys() -> str:
    """The table in the docstring of `schemas/ledger/keys.py`."""
    return "\n".join(line for line in (keys.__doc__ or "").splitlines() if line.startswith("|"))


def dead_letter_reasons() -> str:
    return _pairs("reason", "meaning", REASONS)


def doctor_checks() -> str:
    return _pairs("check", "meaning", CHECKS)


def _pairs(name: str, meaning: str, pairs: dict[str, str]) -> str:
    return "\n".join(
        (f"| {name} | {meaning} |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in pairs.items()))
    )


def publishing_examples() -> str:
    """The programs of docs/examples/, one section per language."""
    blocks = []
    for language, names in EXAMPLES.items():
        blocks.append(f"## {language}")
        for name in names:
            path = ROOT / "docs" / "examples" / name
            fence = {"mjs": "javascript", "py": "python", "sh": "sh"}.get(path.suffix[1:], path.suffix[1:])
            blocks.append(f"[`{name}`](examples/{name})\n\n```{fence}\n{path.read_text(encoding='utf-8').strip()}\n```")
    return "\n\n".join(blocks)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings,
    "metrics": metrics,
    "alerts": alerts,
    "commands": commands,
    "ledger-keys": ledger_keys,
    "dead-letter-reasons": dead_letter_reasons,
    "doctor-checks": doctor_checks,
    "publishing-examples": publishing_examples,
    "capacity-memory": capacity.memory_table,
    "capacity-periods": capacity.periods_table,
    "capacity-sites": capacity.sites_table,
}


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rendered(page: str) -> str:
    """`page` with its generated parts renewed. Raises KeyError for an unknown part."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", page)


def main() -> None:
    for path in pages():
        page = path.read_text(encoding="utf-8")
        path.write_text(rendered(page), encoding="utf-8")


if __name__ == "__main__":
    main()
