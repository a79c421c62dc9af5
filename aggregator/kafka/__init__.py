"""Kafka as the worker uses it: ranges, sockets, admin client, tokens, dead letters."""
