"""The real nginx and the real Caddy as TLS servers before an api, with and without client certificates."""

from __future__ import annotations

from pathlib import Path

from deploy.demo.servers.process import HOST
from tests.certificates import Certificate
from tests.deploy.proxy_servers import CaddyServer, NginxServer, ProxyServer


class TlsFront(ProxyServer):
    """`client_ca` signs the certificates of clients, which then are needed."""

    host = HOST

    def __init__(self, api: str, shown: Certificate, client_ca: Path | None = None) -> None:
        super().__init__()
        self._api = api
        self._shown = shown
        self._client_ca = client_ca

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"


class NginxFront(TlsFront, NginxServer):
    """Answers 400 to a client without a certificate."""

    def configuration(self) -> str:
        clients = f"ssl_verify_client on; ssl_client_certificate {self._client_ca};" if self._client_ca else ""
        return f"""
            server {{
                listen {self.address} ssl;
                ssl_certificate {self._shown.certificate}; ssl_certificate_key {self._shown.key}; {clients}
                location / {{
                    proxy_pass http://{self._api};
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header X-Forwarded-Proto $scheme;
                }}
            }}
        """


class CaddyFront(TlsFront, CaddyServer):
    """Breaks off the connection to a client without a certificate, and answers 421 to one that names no host in TLS."""

    host = "localhost"
    options = "auto_https off"

    def configuration(self) -> str:
        clients = (
            f"client_auth {{\nmode require_and_verify\ntrusted_ca_cert_file {self._client_ca}\n}}"
            if self._client_ca
            else ""
        )
        return f"""
            {self.url} {{
                bind {HOST}
                tls {self._shown.certificate} {self._shown.key} {{
                    {clients}
                }}
                reverse_proxy {self._api}
            }}
        """
