"""Foreign records into our events: one pure function a product, used by the worker, webhooks and `publish` alike."""
