"""Records in, one range's delta out: pure functions of their arguments."""
