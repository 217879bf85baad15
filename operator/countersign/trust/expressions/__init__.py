"""Expressions in policies: what those for attestations and those for audiences have in common."""
