"""How both services reach Kafka and Redis: settings, TLS, tokens, and diagnosis of failures."""
