"""Methods that learn to generate."""
