"""Reads of the ledger: client, statistics, distinct users, rolling windows, status."""
