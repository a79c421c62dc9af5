"""Authentication of callers: tokens, sessions, rate limits."""
