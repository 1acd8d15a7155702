"""Hand-crafted synthesis: array operations on the picture itself, nothing learned."""
