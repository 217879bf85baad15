"""Makers of good and bad parts: signatures by hand, and a registry that can be told to misbehave."""
