"""Methods that assume or learn where normal data lies."""
