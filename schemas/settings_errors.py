"""Renders pydantic's errors of settings: one line per setting, with value, allowed values and an example."""

from __future__ import annotations

import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from schemas.connections.urls import masked_url
from schemas.prefix import PREFIX
from schemas.suggestions import did_you_mean

HOW: Final = "how"
"""The key in a field's `json_schema_extra` that holds the text of how to make a value of a required setting."""
SHOWN_CHARS: Final = 120


def render(settings: type[BaseSettings], error: ValidationError) -> list[str]:
    """One line per invalid setting, and per rule about several settings."""
    by_name: dict[str, list[Any]] = {}
    lines = []
    for detail in error.errors(include_url=False):
        if detail["loc"]:
            by_name.setdefault(str(detail["loc"][0]), []).append(detail)
        else:
            # A validator of several settings names them in its text.
            lines.append(detail["msg"].removeprefix("Value error, "))
    return [*(_line(name, settings.model_fields[name], details) for name, details in by_name.items()), *lines]


def _line(name: str, field: FieldInfo, details: list[Any]) -> str:
    setting, first = f"{PREFIX}{name.upper()}", details[0]
    if first["type"] == "missing":
        extra = field.json_schema_extra
        how = extra.get(HOW, "") if isinstance(extra, dict) else ""
        return f"{setting}: is not set; {how}"
    example = _example(setting, field)
    value = "" if is_secret(field) else _shown(first["input"])
    if first["type"] == "value_error":
        text = first["msg"].removeprefix("Value error, ")
        if value and value not in text and text.startswith("must"):
            text = f"{value} {text}"
        return f"{setting}: {text}{'' if 'example' in text else example}"
    fault = f"{value} is not allowed" if value else "is not valid"
    return f"{setting}: {fault}; allowed: {allowed(field)}{example}{_suggestion(field, first['input'])}"


def is_secret(field: FieldInfo) -> bool:
    return SecretStr in _parts(field.annotation)


def allowed(field: FieldInfo) -> str:
    """The allowed values in words."""
    return _words(field.annotation, field.metadata)


def _shown(value: Any) -> str:
    """A short value in quotes; empty for one that is long or not from the environment."""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    text = str(value)
    if len(text) > SHOWN_CHARS or isinstance(value, dict):
        return ""
    return repr(masked_url(text))


def _example(setting: str, field: FieldInfo) -> str:
    value = field.examples[0] if field.examples else field.default
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    elif isinstance(value, dict):
        value = ",".join(f"{key}={item}" for key, item in value.items())
    elif isinstance(value, bool):
        value = str(value).lower()
    if value in (None, "") or isinstance(value, SecretStr) or not isinstance(value, (str, int, float)):
        return ""
    return f"; example: {setting}={value}"


def _suggestion(field: FieldInfo, value: Any) -> str:
    known = [str(word) for part in _parts(field.annotation) if get_origin(part) is Literal for word in get_args(part)]
    items = value if isinstance(value, tuple) else (value,)
    wrong = [str(item) for item in items if str(item) not in known]
    return did_you_mean(wrong[0], known) if wrong and known else ""


def _parts(annotation: Any) -> list[Any]:
    """The annotation and all types inside it."""
    if get_origin(annotation) is Literal:
        return [annotation]
    inner = [part for each in get_args(annotation) for part in _parts(each)]
    return [annotation, *inner]


def _words(annotation: Any, metadata: Iterable[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    # pydantic unpacks the limits of a field, but not those inside a union.
    metadata = [each for item in metadata for each in (item.metadata if isinstance(item, FieldInfo) else (item,))]
    if origin is Annotated:
        return _words(arguments[0], (*arguments[1:], *metadata))
    if origin is Literal:
        return ", ".join(str(word) or "(empty)" for word in arguments)
    if origin in (Union, types.UnionType):
        return ", or ".join(_words(each, metadata) for each in arguments if each is not type(None))
    if origin is tuple:
        return f"{_words(arguments[0], ())}; several separated by commas"
    if annotation is bool:
        return "true, false"
    if annotation in (int, float):
        return ("a whole number" if annotation is int else "a number") + _range(metadata)
    if annotation is Path:
        return "the path of a file"
    return "text" + _length(metadata)


def _range(metadata: Iterable[Any]) -> str:
    least = next((each.ge for each in metadata if isinstance(each, Ge)), None)
    most = next((each.le for each in metadata if isinstance(each, Le)), None)
    above = next((each.gt for each in metadata if isinstance(each, Gt)), None)
    below = next((each.lt for each in metadata if isinstance(each, Lt)), None)
    if least is not None and most is not None:
        return f" from {least} to {most}"
    bounds = ((" of at least", least), (" above", above), (" of at most", most), (" below", below))
    return " and".join(f"{words} {bound}" for words, bound in bounds if bound is not None)


def _length(metadata: Iterable[Any]) -> str:
    least = next((each.min_length for each in metadata if isinstance(each, MinLen)), None)
    most = next((each.max_length for each in metadata if isinstance(each, MaxLen)), None)
    if least == 1 and most is None:
        return ", not empty"
    bounds = ((" of at least", least), (" of at most", most))
    return " and".join(f"{words} {bound} characters" for words, bound in bounds if bound is not None)
