"""Real servers as child processes on the loopback interface: the demo's pair, and what the tests run against."""

from deploy.servers.apache_kafka import ApacheKafka
from deploy.servers.java import JavaMissingError
from deploy.servers.keycloak import Keycloak
from deploy.servers.process import ServerError, ServerProcess, free_port
from deploy.servers.prometheus import Prometheus
from deploy.servers.tansu import Tansu
from deploy.servers.topics import create_topics
from deploy.servers.valkey import Valkey

__all__ = [
    "ApacheKafka",
    "JavaMissingError",
    "Keycloak",
    "Prometheus",
    "ServerError",
    "ServerProcess",
    "Tansu",
    "Valkey",
    "create_topics",
    "free_port",
]
