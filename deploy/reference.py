"""The README's tables of settings and metrics, from the code: `python -m deploy.reference` prints them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from aggregator import metrics as of_worker
from aggregator.settings import WorkerSettings
from api import metrics as of_api
from api.settings import ApiSettings


def settings() -> str:
    """One row per setting: name without prefix, who reads it, default, one sentence."""
    services: dict[str, type[BaseSettings]] = {"worker": WorkerSettings, "api": ApiSettings}
    rows = ["| `AUTHTALLY_…` | read by | default | |", "|---|---|---|---|"]
    fields = {name: field for service in services.values() for name, field in service.model_fields.items()}
    for name, field in fields.items():
        readers = [who for who, service in services.items() if name in service.model_fields]
        told = _default(field.default)
        rows.append(f"| `{name.upper()}` | {' and '.join(readers)} | {told} | {field.description} |")
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
    rows = ["| metric | labels | |", "|---|---|---|"]
    for module in (of_worker, of_api):
        for metric in _metrics_of(module):
            name: str = metric._name + ("_total" if isinstance(metric, Counter) else "")
            kind = " (histogram)" if isinstance(metric, Histogram) else ""
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append(f"| `{name}`{kind} | {labels} | {metric._documentation} |")
    return "\n".join(rows)


def _metrics_of(module: Any) -> Iterator[MetricWrapperBase]:
    return (found for found in vars(module).values() if isinstance(found, MetricWrapperBase))


if __name__ == "__main__":
    print(settings(), metrics(), sep="\n\n")
