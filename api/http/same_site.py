"""Requests that a browser sends for another web site: without tokens, only these checks keep such sites out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.web_request import BaseRequest
from multidict import istr

from api.http.cors import ANY
from api.http.strict import Step, refusal
from schemas.prefix import PREFIX

SITE: Final = istr("Sec-Fetch-Site")
OWN_SITES: Final = frozenset({"same-origin", "none"})
"""`none` is a request of the user: address bar or bookmark. Another port of this host is `same-site`."""
HOST: Final = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^][:@/]*))(?::[0-9]*)?")
OPEN_PATHS: Final = ("/health/", "/metrics", "/dashboard/")
"""Answers without figures of tenants, which monitoring and links from other sites request."""


def is_cross_site(headers: Mapping[str, str], origins: Collection[str] = ()) -> bool:
    """Whether a browser sent the request for another origin than the request's own, and than those of `origins`."""
    origin = headers.get(hdrs.ORIGIN)
    if origin is not None and (origin in origins or ANY in origins):
        return False
    if headers.get(SITE, "none").lower() not in OWN_SITES:
        return True
    return origin is not None and _authority(origin) != headers.get(hdrs.HOST, "").lower()


def is_rebindable(host: str, names: Collection[str]) -> bool:
    """Whether another site's owner may have pointed this Host here by DNS; `names` are ours.

    Addresses, and names without a dot, have no such owner.
    """
    name = _host_name(host)
    return not (not name or "." not in name or name.endswith(".localhost") or name in names or _is_address(name))


def refuse_other_sites(names: Collection[str], origins: Collection[str] = ()) -> Step:
    """The check for AUTH=none. `names` are host names at which we answer, `origins` other sites that may ask."""
    known = frozenset(name.lower() for name in names)
    # Parsing an address costs a tenth of a cached answer; a client sends the same Host each time.
    is_foreign = lru_cache(maxsize=256)(lambda host: is_rebindable(host, known))

    def check(request: BaseRequest) -> web.Response | None:
        headers = request.headers
        cross_site = is_cross_site(headers, origins)
        if not cross_site and not is_foreign(headers.get(hdrs.HOST, "")):
            return None
        # The path is last, because decoding it takes longer than the other checks together.
        path = request.path
        if path == "/" or path.startswith(OPEN_PATHS):
            return None
        if cross_site:
            return refusal(403, f"{PREFIX}AUTH=none refuses requests of other web sites.")
        return refusal(403, f"{PREFIX}AUTH=none does not answer at this host name; {PREFIX}AUTH_NONE_HOSTS allows it.")

    return check


def _host_name(host: str) -> str:
    found = HOST.fullmatch(host.lower())
    # A malformed one is no name of ours.
    return "." if found is None else found["address"] or found["name"].rstrip(".")


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
