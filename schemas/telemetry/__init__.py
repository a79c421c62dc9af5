"""Logs, traces, the running version, and the exit deadline with its stack dump."""
