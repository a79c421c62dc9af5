"""The page at `/`: what an operator looks at first. Its figures come over the same HTTP API as everybody's."""
