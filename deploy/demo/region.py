"""A region of `authtally demo --regions`, and the settings that make it one."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from deploy.demo.servers.process import HOST

NAMES: Final = ("eu", "us")
PEER_SCOPE: Final = "sketches:read"
MIN_USERS: Final = 100
"""The default of 100,000 is above the users of the sample, which would then only be numbers."""


class Region(NamedTuple):
    """`peers` are the other regions with the ports of their apis."""

    name: str
    peers: dict[str, int]
    hash_key: str
    """The same in all regions: users of two regions can unite."""
    peer_token: str

    def settings(self, folder: Path) -> dict[str, str]:
        """Settings for worker and api, by name without prefix. Writes the files that they name."""
        token_file, peers_file = folder / "peer.token", folder / "peers.json"
        token_file.write_text(self.peer_token, encoding="utf-8")
        token_file.chmod(0o600)
        peers = [
            {"name": name, "url": f"http://{HOST}:{port}", "token_file": str(token_file)}
            for name, port in self.peers.items()
        ]
        peers_file.write_text(json.dumps(peers), encoding="utf-8")
        return {
            "REGION": self.name,
            "REGION_USERS": "shared",
            "REGION_MIN_USERS": str(MIN_USERS),
            "PEERS_FILE": str(peers_file),
            "USER_HASH_KEY": self.hash_key,
        }


def planned(port: int) -> list[tuple[int, Region]]:
    """Two regions with the ports of their apis: `port` and the next one."""
    ports = {name: port + number for number, name in enumerate(NAMES)}
    hash_key, token = secrets.token_hex(32), secrets.token_urlsafe(24)
    return [
        (own, Region(name, {other: at for other, at in ports.items() if other != name}, hash_key, token))
        for name, own in ports.items()
    ]
