"""The connections of both services to Kafka and Redis: settings, clients, TLS, tokens, diagnosis of failures."""
