"""Addresses of callers behind trusted proxies: without them all callers of a proxy have its address and one allowance.

Each proxy appends the address of its peer to `X-Forwarded-For`, so only the entries of trusted proxies, on the right,
are facts. A caller can write all others itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.web_request import BaseRequest

from api.http.strict import Transform

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS: Final = 16
"""Most entries that are read, so that a long header costs no time; no deployment has as many proxies in a row."""
MAX_ENTRY: Final = 64
"""Longer than any address with zone, brackets and port."""
WITH_PORT: Final = re.compile(r"\[([^][]*)\](?::\d*)?|([\d.]+):\d+", re.ASCII)
"""`[2001:db8::1]`, `[2001:db8::1]:443`, `192.0.2.1:443`, as some load balancers write it."""
SCHEMES: Final = frozenset({"http", "https"})


@lru_cache(maxsize=4096)
def address_of(entry: str) -> Address | None:
    """The address in a header's entry or a peer's name, without port and zone; None if it is none.

    An IPv4 address inside IPv6 is the IPv4 address, which is how networks name it.
    """
    text = entry.strip()
    if (found := WITH_PORT.fullmatch(text)) is not None:
        text = found[1] or found[2] or ""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: str) -> str:
    """The address, or the /64 network of an IPv6 address: a host chooses freely inside it."""
    parsed = address_of(address) if len(address) <= MAX_ENTRY else None
    if parsed is None:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def caller_of(request: web.Request) -> str:
    """The caller's address as limits count it: an IPv6 host has as many addresses as it wants."""
    return network_of(request.remote or "")


class TrustedProxies:
    """The networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._is_trusted = lru_cache(maxsize=4096)(lambda address: any(address in network for network in networks))

    def client(self, peer: str | None, entries: Sequence[str]) -> str | None:
        """The caller's address: the right-most that is no trusted proxy. `entries` are the values of X-Forwarded-For.

        The peer's own if it is not trusted. An entry that is no address ends the search at the proxy that wrote it.
        Addresses of trusted proxies only: the left-most of them.
        """
        address = address_of(peer or "")
        if address is None or not self._is_trusted(address):
            return peer
        for entry in _from_the_right(entries):
            before = address_of(entry) if len(entry) <= MAX_ENTRY else None
            if before is None:
                break
            address = before
            if not self._is_trusted(address):
                break
        return str(address)

    def believed(self, request: BaseRequest) -> BaseRequest:
        """The request with the caller's address and scheme, if a trusted proxy sent it; otherwise as it is."""
        peer = address_of(request.remote or "")
        if peer is None or not self._is_trusted(peer):
            return request
        headers = request.headers
        client = self.client(request.remote, headers.getall(hdrs.X_FORWARDED_FOR, ()))
        # The right-most scheme is the one by which the nearest proxy was asked.
        scheme = next(_from_the_right(headers.getall(hdrs.X_FORWARDED_PROTO, ())), "").strip().lower()
        return request.clone(remote=cast(str, client), scheme=scheme if scheme in SCHEMES else request.scheme)


def transform(networks: Sequence[Network]) -> Transform | None:
    """The transform of the server; None without networks, since it would cost each cached answer time."""
    return TrustedProxies(networks).believed if networks else None


def _from_the_right(values: Sequence[str]) -> Iterator[str]:
    """The last MAX_HOPS entries of a list that may stand in several header lines, from the last to the first."""
    left = MAX_HOPS
    for value in reversed(values):
        parts = value.rsplit(",", left)
        # With more commas than that, the first part is not one entry.
        for part in reversed(parts[1:] if len(parts) > left else parts):
            yield part
            left -= 1
        if left <= 0:
            return
