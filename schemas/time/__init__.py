"""The clocks of a process, and timestamps as text."""
