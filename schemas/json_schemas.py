"""JSON Schemas for producers, generated from the event types by `python -m schemas.json_schemas`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.events import EVENTS

FOLDER: Final = Path(__file__).parent / "json"


def documents() -> dict[str, dict[str, Any]]:
    """File name to JSON Schema (2020-12), one per event."""
    found = {}
    for name, event in EVENTS.items():
        (reference,), components = msgspec.json.schema_components([event], ref_template="#/$defs/{name}")
        schema = components[reference["$ref"].rpartition("/")[2]]
        # msgspec lists a tag as required, but `type` is optional on a topic bound to one event.
        schema["required"] = [field for field in schema["required"] if field != "type"]
        schema["description"] = inspect.cleandoc(schema["description"])
        found[f"{name}.schema.json"] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return found


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, document in documents().items():
        (FOLDER / name).write_text(as_text(document), encoding="utf-8")


if __name__ == "__main__":
    main()
