"""What a test does at a Keycloak, and with it what must be counted: the tokens are those of Keycloak's answers."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from schemas.ledger import fields
from tests.conftest import wait_until
from tests.integration.keycloak.flows import (
    DEVICE,
    EXCHANGE,
    HOOKED,
    MACHINES,
    TOKEN_TYPE,
    Admin,
    Browser,
    Site,
)
from tests.servers.keycloak import Keycloak

TOKENS: Final = ("access_token", "id_token", "refresh_token")


class Deeds:
    """The figures of everything done so far, in both realms."""

    def __init__(self, keycloak: Keycloak) -> None:
        self._site = Site(keycloak)
        self._machines = Site(keycloak, MACHINES)
        self._admin = Admin(keycloak)
        self.counts: Counter[str] = Counter()
        self.users: set[str] = set()
        self.events: Counter[str] = Counter()
        """Number of native events by realm."""

    def _login(self, user: str) -> None:
        self.counts[fields.LOGIN] += 1
        self.events[HOOKED] += 1
        self.users.add(user)

    def _failed(self, reason: str, answer: Any) -> None:
        assert "error" in answer, answer
        self.counts[fields.failed(reason)] += 1
        self.events[HOOKED] += 1

    def _account(self, kind: str) -> None:
        self.counts[fields.account(kind)] += 1
        self.events[HOOKED] += 1

    def _tokens(self, grant: str, answer: Any, realm: str = HOOKED) -> Any:
        assert "access_token" in answer, answer
        issued = [name for name in TOKENS if name in answer]
        if answer.get("issued_token_type") == f"{TOKEN_TYPE}id_token":
            issued = ["id_token"]
        self.counts.update(fields.token(grant, name) for name in issued)
        self.events[realm] += 1
        return answer

    def do(self) -> None:
        """Logins of every kind, refreshes, grants, exchanges, a registration, eight kinds of failures, a lockout."""
        self._people()
        self._machine()
        self._failures()
        self._lockout()
        self._administration()

    def _people(self) -> None:
        site, browser = self._site, Browser()
        self._login("alice")
        first = self._tokens("password", site.password("alice"))
        self._login("bob")
        self._tokens("password", site.password("bob", scope="email"))
        self._tokens("refresh_token", site.token("cli", "refresh_token", refresh_token=first["refresh_token"]))
        subject = {"subject_token": first["access_token"], "subject_token_type": f"{TOKEN_TYPE}access_token"}
        for more in ({}, {"requested_token_type": f"{TOKEN_TYPE}id_token"}):
            self._tokens(EXCHANGE, site.token("cli", EXCHANGE, **subject, **more))
        self._login("alice")
        self._tokens("authorization_code", site.sign_in(browser, "alice"))
        # Signed in already: by the cookie, and without a page. No event differs from that of a login by the form.
        for parameters in ({}, {"prompt": "none"}):
            self._login("alice")
            self._tokens("authorization_code", site.redeem(site.authorize(browser, **parameters)))
        device = site.post("auth/device", "cli", scope="openid")
        site.approve_device(browser, device)
        self._login("alice")
        self._tokens(DEVICE, site.token("cli", DEVICE, device_code=device["device_code"]))
        self._account("signup")
        self._login("zoe")
        self._tokens("authorization_code", site.register(Browser(), "zoe"))

    def _machine(self) -> None:
        site = self._machines
        first = self._tokens("client_credentials", site.token("svc", "client_credentials"), MACHINES)
        again = site.token("svc", "refresh_token", refresh_token=first["refresh_token"])
        self._tokens("refresh_token", again, MACHINES)

    def _failures(self) -> None:
        site = self._site
        self._failed("invalid_credentials", site.password("bob", "wrong"))
        self._failed("user_not_found", site.password("nobody"))
        self._failed("user_disabled", site.password("dave"))
        self._failed("resolve_required_actions", site.password("erin"))
        self._failed("not_allowed", site.password("bob", client="spa"))
        self._failed("client_not_found", site.password("bob", client="nosuch"))
        # A refused code is no login that failed.
        assert "error" in site.token("cli", "authorization_code", code="none", redirect_uri="http://127.0.0.1:9/cb")
        # The form of another browser, so without its cookies.
        page = Browser().submit(site.authorize(Browser()), username="bob", password="of bob")
        self._failed("cookie_not_found", {"error": page})

    def _lockout(self) -> None:
        for _ in range(3):
            self._failed("invalid_credentials", self._site.password("mallory", "wrong"))
        user = self._admin(f"{HOOKED}/users?username=mallory")[0]["id"]
        status = f"{HOOKED}/attack-detection/brute-force/users/{user}"
        wait_until(lambda: self._admin(status)["disabled"], 30, "the user is locked out")
        self._account("locked_out")
        self._failed("locked", self._site.password("mallory"))

    def _administration(self) -> None:
        """Not counted: a user made by an administrator, and one whom the administrator impersonates."""
        self._admin(f"{HOOKED}/users", {"username": "made", "enabled": True})
        user = self._admin(f"{HOOKED}/users?username=bob")[0]["id"]
        assert self._admin(f"{HOOKED}/users/{user}/impersonation", {})["redirect"]

    def stored(self, kind: str) -> list[dict[str, Any]]:
        """What Keycloak's admin REST interface returns: `events` or `admin-events`, of both realms."""
        return [event for realm in (HOOKED, MACHINES) for event in self._admin(f"{realm}/{kind}?max=1000")]
