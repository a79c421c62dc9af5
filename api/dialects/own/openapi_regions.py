"""The routes for the apis of other regions as path items for `/openapi.json` (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any, Final

from api.regions.peer import EXPORT_PATH, IDENTITY_PATH, IDS_PATH
from api.regions.wire import Export, ExportRequest, Identity, IdsExport

JsonSchema = dict[str, Any]

TYPES: Final[list[Any]] = [Identity, Export, ExportRequest, IdsExport]
TAG: Final = "regions"
ERRORS: Final = ("400", "401", "403", "500", "503")


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _route(operation: str, summary: str, description: str, answer: type, **more: Any) -> JsonSchema:
    errors = {status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS}
    return {
        "operationId": operation,
        "summary": summary,
        "description": f"{description} Needs the scope `sketches:read`, and a bearer of all realms.",
        "tags": [TAG],
        **more,
        "responses": {
            "200": {
                "description": "What the region exports.",
                "content": {"application/json": {"schema": _ref(answer.__name__)}},
            },
            **errors,
        },
    }


PATHS: Final[JsonSchema] = {
    IDENTITY_PATH: {
        "get": _route(
            "region",
            "The identity of this region",
            "Its ledger's id, and the settings on which figures of two regions depend. The hash key is not in it, "
            "only a fingerprint for comparison.",
            Identity,
        )
    },
    EXPORT_PATH: {
        "post": _route(
            "region_export",
            "Sketches and sums for the api of another region",
            "Users of a period and scope are in sketches from REGION_MIN_USERS on, and a number below it. No answer "
            "has the digest of a user.",
            Export,
            requestBody={
                "required": True,
                "content": {"application/json": {"schema": _ref(ExportRequest.__name__)}},
            },
        )
    },
    IDS_PATH: {
        "get": _route(
            "region_ids",
            "A sample of the event ids of an hour",
            "By it `authtally doctor` finds a topic that two regions count.",
            IdsExport,
            parameters=[
                {
                    "name": "hour",
                    "in": "query",
                    "required": False,
                    "description": "Hours since 1970, by record time. Default: the last whole hour that has ids.",
                    "schema": {"type": "integer", "minimum": 0, "maximum": 9_999_999},
                }
            ],
        )
    },
}
