"""Settings of a command: effective values, or all faults at once, unknown names included."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from dotenv import dotenv_values
from pydantic_settings import BaseSettings

from schemas.settings import PREFIX, SECRETS_DIR, SettingsError, read
from schemas.suggestions import did_you_mean

S = TypeVar("S", bound=BaseSettings)

OF_COMPOSE: Final = frozenset({PREFIX + "IMAGE"})
"""Variables of `deploy/compose/compose.yaml` with our prefix: no settings, but a command may run beside its `.env`."""


def known_names() -> set[str]:
    """All settings of services and commands, because they often share one environment file."""
    from aggregator.settings import WorkerSettings
    from api.settings.settings import ApiSettings
    from deploy.cli.report import ReportSettings

    readers: tuple[type[BaseSettings], ...] = (WorkerSettings, ApiSettings, ReportSettings)
    return {PREFIX + name.upper() for settings in readers for name in settings.model_fields}


def set_names(environment: Mapping[str, str] | None = None) -> Mapping[str, str | None]:
    """Names and values from `.env` and the environment, and the names of secret files."""
    variables = os.environ if environment is None else environment
    folder = Path(variables.get(SECRETS_DIR) or os.devnull)
    files = {each.name: None for each in folder.iterdir()} if folder.is_dir() else {}
    return {**files, **dotenv_values(".env"), **variables}


def unknown_names(names: Iterable[str], known: set[str]) -> list[str]:
    """One fault per unknown name with our prefix; ignored, a misspelt setting would silently keep its default."""
    return [
        f"{name}: no such setting{did_you_mean(name, known)}"
        for name in sorted({name.upper() for name in names})
        if name.startswith(PREFIX) and name not in known | OF_COMPOSE
    ]


def load(settings: type[S]) -> S:
    """Read settings. Raises SettingsError with all faults, unknown names included."""
    faults = unknown_names(set_names(), known_names())
    try:
        values = read(settings)
    except SettingsError as error:
        raise SettingsError([*error.errors, *faults]) from error
    if faults:
        raise SettingsError(faults)
    return values
