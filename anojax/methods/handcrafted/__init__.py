"""Hand-crafted synthesis: array operations on the image itself, nothing learned."""
