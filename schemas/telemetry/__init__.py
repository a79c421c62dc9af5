"""Logs, traces and the version that runs."""
