"""The adapters by the names that `TOPICS` uses. `publish --format` and the webhooks have lists of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.adapters.auth0_logs import auth0_logs
from schemas.adapters.cloudevents import cloudevents
from schemas.adapters.elements import Adapter
from schemas.adapters.fusionauth import fusionauth
from schemas.adapters.janssen_audit import janssen_audit, janssen_audit_sessions
from schemas.adapters.keycloak import keycloak
from schemas.adapters.linotp_report import linotp_report
from schemas.adapters.native import bound_to, native
from schemas.adapters.realm_names import naming_realms
from schemas.events import ANY, EVENTS

ADAPTERS: Final[dict[str, Adapter]] = {
    "login": bound_to("login"),
    "token": bound_to("token"),
    "account": bound_to("account"),
    "otp": bound_to("otp"),
    "otp-count": bound_to("otp-count"),
    "native": native,
    "keycloak": keycloak,
    "janssen-audit": janssen_audit,
    "janssen-audit-sessions": janssen_audit_sessions,
    "auth0-logs": auth0_logs,
    "fusionauth": fusionauth,
    "linotp-report": linotp_report,
    "cloudevents": cloudevents,
}

OWN: Final = frozenset({*EVENTS, ANY, "cloudevents"})
"""The names of our own event types; the others are of products."""


def adapter_named(name: str, realm_names: Mapping[str, str]) -> Adapter:
    """The adapter of ADAPTERS; that of a product replaces the realms in `realm_names`."""
    return ADAPTERS[name] if name in OWN else naming_realms(ADAPTERS[name], realm_names)
