"""`authtally demo`: broker, store, worker and api on one machine, with sample events."""
