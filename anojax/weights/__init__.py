"""Pretrained weights: files, names, and the way into the networks. No downloads."""
