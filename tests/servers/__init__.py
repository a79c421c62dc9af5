"""Real servers that only tests start, as child processes on the loopback interface."""

from tests.servers.apache_kafka import ApacheKafka
from tests.servers.databases import Database, MariaDb, PostgreSql
from tests.servers.java import JavaMissingError
from tests.servers.keycloak import Keycloak
from tests.servers.prometheus import Prometheus

__all__ = [
    "ApacheKafka",
    "Database",
    "JavaMissingError",
    "Keycloak",
    "MariaDb",
    "PostgreSql",
    "Prometheus",
]
