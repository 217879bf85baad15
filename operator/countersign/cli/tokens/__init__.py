"""Tokens: whether one is active, and why not."""
