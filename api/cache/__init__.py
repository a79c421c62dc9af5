"""Finished answers: entries, responses, one computation for equal questions."""
