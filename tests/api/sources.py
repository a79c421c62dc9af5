"""Settings for each kind of authentication, and the entries of a token file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.api.issuer import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ISSUER, Issuer


def by_jwt(issuer: Issuer) -> dict[str, Any]:
    return {
        "auth": ("jwt",),
        "auth_issuer": ISSUER,
        "auth_audience": AUDIENCE,
        "auth_jwks_url": f"{issuer.url}/jwks",
    }


def by_introspection(issuer: Issuer) -> dict[str, Any]:
    return {
        "auth": ("introspection",),
        "auth_introspection_url": f"{issuer.url}/introspect",
        "auth_client_id": CLIENT_ID,
        "auth_client_secret": CLIENT_SECRET,
    }


def by_file(folder: Path, *listed: dict[str, object]) -> dict[str, Any]:
    """Settings for static tokens, with a new token file of these entries."""
    path = folder / "tokens.json"
    path.write_text(json.dumps(listed))
    return {"auth": ("static",), "auth_tokens_file": path}


def listed(value: str, **rest: object) -> dict[str, object]:
    """The entry of a token file for the token `value`; `rest` replaces fields."""
    return {"sha256": hashlib.sha256(value.encode()).hexdigest(), "subject": value, "scopes": ["jans_stat"]} | rest
