"""Cached answers: entries, responses, one computation for concurrent equal requests."""
