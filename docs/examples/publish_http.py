"""Sends one event over HTTP. Sending it again is safe: events with the same id count once."""

import json
import os
from datetime import UTC, datetime
from urllib.request import Request, urlopen

time = datetime.now(UTC).isoformat()
event = {"type": "login", "time": time, "user_id": "ada", "realm": "acme", "id": "shop:4711"}
headers = {"Authorization": f"Bearer {os.environ['AUTHTALLY_TOKEN']}", "Content-Type": "application/json"}
request = Request(f"{os.environ['AUTHTALLY_URL']}/v1/events", json.dumps(event).encode(), headers)
with urlopen(request, timeout=30) as answer:
    print(answer.read().decode())
