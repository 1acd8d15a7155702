"""How good detectors and synthetic images are."""
