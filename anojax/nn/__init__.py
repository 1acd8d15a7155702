"""Networks and losses shared by two or more methods: flax modules and pure functions.

Everything here works on batches ``[B, H, W, C]``. Parameters and statistics are
float32; `dtype` is the precision of the arithmetic, and outputs are float32 again.
"""
