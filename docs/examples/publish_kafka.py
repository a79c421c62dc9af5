"""Sends one event to Kafka. The key keeps repeated sends in one partition, where the id counts once."""

import json
import os
from datetime import UTC, datetime

from confluent_kafka import Producer

event = {"time": datetime.now(UTC).isoformat(), "user_id": "ada", "realm": "acme", "id": "shop:4711"}
settings = {"bootstrap.servers": os.environ["KAFKA"], "enable.idempotence": True, "partitioner": "murmur2_random"}
producer = Producer(settings)
producer.produce("auth.logins", key=event["id"], value=json.dumps(event))
if producer.flush(30):
    raise SystemExit("Kafka did not acknowledge the event within 30 s")
print("acknowledged")
