"""Pure array operations: one picture in, arrays out. No method knowledge."""
