"""Pure functions, one per product, that convert its records to our events for worker, webhooks and `publish`."""
