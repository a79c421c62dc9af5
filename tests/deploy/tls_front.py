"""The real nginx and the real Caddy as TLS servers before an api, with and without client certificates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.demo.servers import ServerProcess
from deploy.demo.servers.process import HOST, accepts
from tests.certificates import Certificate
from tests.deploy.test_proxy import TEMPORARY, program


class TlsFront(ServerProcess):
    """`client_ca` signs the certificates of clients, which then are needed."""

    name: str
    host = HOST

    def __init__(self, api: str, shown: Certificate, client_ca: Path | None = None) -> None:
        self._program = program(self.name)
        super().__init__()
        self._api = api
        self._shown = shown
        self._client_ca = client_ca

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def answers(self) -> bool:
        return accepts(self.port)


class NginxFront(TlsFront):
    """Answers 400 to a client without a certificate."""

    name = "nginx"

    def prepare(self) -> None:
        clients = f"ssl_verify_client on; ssl_client_certificate {self._client_ca};" if self._client_ca else ""
        (self.folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid nginx.pid; error_log stderr;
            events {{}}
            http {{
                access_log off; {TEMPORARY}
                server {{
                    listen {self.address} ssl;
                    ssl_certificate {self._shown.certificate}; ssl_certificate_key {self._shown.key}; {clients}
                    location / {{ proxy_pass http://{self._api}; }}
                }}
            }}
            """
        )

    def command(self) -> Sequence[str | Path]:
        return (self._program, "-p", self.folder, "-c", "nginx.conf", "-e", "stderr")


class CaddyFront(TlsFront):
    """Breaks off the connection to a client without a certificate, and answers 421 to one that names no host in TLS."""

    name = "caddy"
    host = "localhost"

    def prepare(self) -> None:
        clients = (
            f"client_auth {{\nmode require_and_verify\ntrusted_ca_cert_file {self._client_ca}\n}}"
            if self._client_ca
            else ""
        )
        (self.folder / "Caddyfile").write_text(
            f"""
            {{
                admin off
                auto_https off
            }}
            {self.url} {{
                bind {HOST}
                tls {self._shown.certificate} {self._shown.key} {{
                    {clients}
                }}
                reverse_proxy {self._api}
            }}
            """
        )

    def command(self) -> Sequence[str | Path]:
        return (self._program, "run", "--config", "Caddyfile", "--adapter", "caddyfile")
