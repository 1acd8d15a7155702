"""How good detectors and synthetic pictures are."""
