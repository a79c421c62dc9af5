"""The ledger in Redis: its script, its reads and its connection."""
