"""The dashboard at `/`. It gets its figures from the public HTTP API."""
