#!/usr/bin/python3
"""Requests the broker's API versions; exit status 0 if it answers. The Maven jars lack Kafka's own command."""

import socket
import struct
import sys

host, port = sys.argv[sys.argv.index("--bootstrap-server") + 1].rsplit(":", 1)
API_VERSIONS, VERSION, CORRELATION, NO_CLIENT = 18, 0, 7, -1
request = struct.pack(">hhih", API_VERSIONS, VERSION, CORRELATION, NO_CLIENT)
with socket.create_connection((host, int(port)), timeout=10) as broker:
    broker.sendall(struct.pack(">i", len(request)) + request)
    _, correlation, error = struct.unpack(">iih", broker.recv(10, socket.MSG_WAITALL))
sys.exit(0 if (correlation, error) == (CORRELATION, 0) else 1)
