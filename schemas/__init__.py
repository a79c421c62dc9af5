"""What the worker and the api agree on: events, periods, keys, fields, settings. Imports neither service."""
