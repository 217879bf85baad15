"""Policies before they are in force: a first one, and trials of them."""
