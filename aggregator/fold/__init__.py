"""Folds: pure functions from records to the delta of one range."""
