"""Events in over HTTP, on to Kafka: native ones, CloudEvents, and the products' webhooks. Only with INGEST=on."""
