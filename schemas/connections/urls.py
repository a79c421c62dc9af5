"""URLs in settings: how they are shown, and whether they are safe to use."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

MASK: Final = "********"


def masked_url(url: str) -> str:
    """The URL without its secrets: password, query values and fragment. The one function for every output.

    Safe for malformed URLs too: a password may contain an unescaped `/`, `?` or `#`, so everything before the last `@`
    counts as the user and password then.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    whole = authority if "@" in authority else rest
    credentials, at, _ = whole.rpartition("@")
    rest = rest[len(credentials) + len(at) :]
    path, question, query = rest.partition("#")[0].partition("?")
    shown = "&".join(_masked_parameter(each) for each in re.split("[&;]", query)) if query else ""
    fragment = f"#{MASK}" if "#" in rest else ""
    return f"{scheme}://{_masked_user(credentials)}{at}{path}{question}{shown}{fragment}"


def split_url(url: str) -> SplitResult:
    """The parts of a URL with one host and a valid port. Raises ValueError without the URL, which may have a secret."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- raises if it is no number
    except ValueError:
        # Python's text contains a part of the password if that has a `/` or a `:`.
        raise ValueError("is not a URL; in a user or password write / ? # @ : as %2F %3F %23 %40 %3A") from None
    return parts


def masked_urls(text: str, *urls: str) -> str:
    """The text with these URLs masked: errors of libraries repeat the URL that they could not use."""
    for url in urls:
        if url:
            text = text.replace(url, masked_url(url))
    return text


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_in_the_clear(url: str) -> bool:
    """Whether requests to the URL cross a network without TLS."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")
    except ValueError:
        return False


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={MASK}" if equals else MASK


def _masked_user(credentials: str) -> str:
    """A user without a password can be a secret itself, such as an API key."""
    user, colon, password = credentials.partition(":")
    if not credentials:
        return ""
    return f"{user}:{MASK}" if colon and password and not set("/?#@") & set(user) else MASK
