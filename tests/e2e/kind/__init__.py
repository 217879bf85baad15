"""A kind cluster for the end-to-end tests."""
