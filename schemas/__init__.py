"""The vocabulary that the worker and the api share: events, periods, keys, fields, settings. Imports neither."""
