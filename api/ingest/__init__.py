"""Ingest over HTTP: native events, CloudEvents and product webhooks, written to Kafka. Only with INGEST=on."""
