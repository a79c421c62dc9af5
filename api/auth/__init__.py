"""Who asks: tokens, sessions, rate limits."""
