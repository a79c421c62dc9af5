"""How near to the truth the answers are, side by side with java-hll, the `hyperloglog` package and a plain PFADD."""
