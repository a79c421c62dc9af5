"""Dialects: the statistics APIs of products. A new one is a module here and a line in api/app.py."""
