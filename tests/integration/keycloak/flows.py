"""What people and machines do at a Keycloak, over its own endpoints and forms."""

from __future__ import annotations

import html
import http.cookiejar
import json
import re
import urllib.error
import urllib.request
from http.client import HTTPMessage
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from tests.servers.keycloak import Keycloak

HOOKED: Final = "hooked"
MACHINES: Final = "machines"
REALM_IDS: Final = {HOOKED: "8dcde252-ae62-4650-bb53-c59660f56892", MACHINES: "3f0c1c55-7d0e-4f4e-9a51-0d1c6a3a7a11"}
CALLBACK: Final = "http://127.0.0.1:9/cb"
TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:"
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
TIMEOUT_S: Final = 30


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to the client, where nothing listens."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        return None if newurl.startswith(CALLBACK) else super().redirect_request(req, fp, code, msg, headers, newurl)


class Browser:
    """Keeps cookies, follows redirects and fills in forms."""

    def __init__(self) -> None:
        # Browsers treat loopback addresses as secure; Keycloak marks its cookies `Secure`.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"))
        jar = http.cookiejar.CookieJar(policy)
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar), _Stay)
        self._at = ""

    def open(self, url: str, **form: str) -> str:
        """The page, or the address of the client to which the page leads; `url` may be relative to the last page."""
        body = urlencode(form).encode() if form else None
        try:
            with self._opener.open(urljoin(self._at, url), body, timeout=TIMEOUT_S) as answer:
                self._at = answer.geturl()
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.headers.get("Location") or error.read().decode()

    def submit(self, page: str, **form: str) -> str:
        """Send the page's form with these fields."""
        found = re.search(r'<form[^>]* action="([^"]+)"', page)
        assert found, page
        return self.open(html.unescape(found[1]), **form)


class Admin:
    """The administrator that the environment variables of BOOTSTRAP create."""

    BOOTSTRAP: Final = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": "of admin"}

    def __init__(self, keycloak: Keycloak) -> None:
        self._url = keycloak.url
        form = {"client_id": "admin-cli", "grant_type": "password", "username": "admin", "password": "of admin"}
        url = f"{keycloak.issuer('master')}/protocol/openid-connect/token"
        with urllib.request.urlopen(url, urlencode(form).encode(), timeout=TIMEOUT_S) as answer:
            self._token = json.load(answer)["access_token"]

    def __call__(self, path: str, body: Any = None) -> Any:
        """The JSON of `/admin/realms/…`: a GET, or a POST of `body`; None for an empty answer."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/admin/realms/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            text = answer.read()
            return json.loads(text) if text else None


class Site:
    """One realm of a Keycloak."""

    def __init__(self, keycloak: Keycloak, realm: str = HOOKED) -> None:
        self._endpoints = f"{keycloak.issuer(realm)}/protocol/openid-connect"

    def post(self, path: str, client: str, **form: str) -> Any:
        """A request of a client to one of its endpoints; the answer, good or bad."""
        secret = {} if client == "spa" else {"client_secret": f"secret of {client}"}
        body = urlencode({"client_id": client} | secret | form).encode()
        try:
            with urllib.request.urlopen(f"{self._endpoints}/{path}", body, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def token(self, client: str, grant_type: str, **form: str) -> Any:
        return self.post("token", client, grant_type=grant_type, **form)

    def password(self, user: str, password: str | None = None, client: str = "cli", scope: str = "openid") -> Any:
        return self.token(client, "password", username=user, password=password or f"of {user}", scope=scope)

    def authorize(self, browser: Browser, client: str = "cli", **parameters: str) -> str:
        query = {"client_id": client, "redirect_uri": CALLBACK, "response_type": "code", "scope": "openid"} | parameters
        return browser.open(f"{self._endpoints}/auth?{urlencode(query)}")

    def code(self, address: str) -> str:
        """The code in the client's address."""
        assert address.startswith(CALLBACK), address
        return parse_qs(urlsplit(address).query)["code"][0]

    def sign_in(self, browser: Browser, user: str, client: str = "cli") -> Any:
        """By the form; the client's answer to the code."""
        address = browser.submit(self.authorize(browser, client), username=user, password=f"of {user}")
        return self.redeem(address, client)

    def redeem(self, address: str, client: str = "cli") -> Any:
        return self.token(client, "authorization_code", code=self.code(address), redirect_uri=CALLBACK)

    def approve_device(self, browser: Browser, device: Any) -> None:
        """Enter the code of a device, as somebody who is signed in, and consent."""
        page = browser.open(device["verification_uri_complete"])
        code = re.search(r'name="code" value="([^"]+)"', page)
        assert code, page
        browser.submit(page, accept="Yes", code=code[1])

    def register(self, browser: Browser, user: str) -> Any:
        """Fill in the registration form; the client's answer to the code."""
        found = re.search(r'href="([^"]*registration[^"]*)"', self.authorize(browser))
        assert found
        form = {"username": user, "email": f"{user}@hooked.example", "firstName": user, "lastName": "New"}
        passwords = {"password": f"of {user}", "password-confirm": f"of {user}"}
        return self.redeem(browser.submit(browser.open(html.unescape(found[1])), **form, **passwords))
