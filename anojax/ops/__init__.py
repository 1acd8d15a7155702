"""Pure array operations: one image in, arrays out. No method knowledge."""
