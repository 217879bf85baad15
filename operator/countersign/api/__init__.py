"""Typed models of the custom resources and of the Kubernetes objects that we read. No I/O, no rules."""
