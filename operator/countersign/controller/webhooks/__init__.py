"""The webhook configurations: worked out, and registered."""
