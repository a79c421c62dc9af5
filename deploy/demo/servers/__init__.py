"""Servers of the demo, a broker and a store, as child processes on the loopback interface."""

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
]
