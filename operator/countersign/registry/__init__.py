"""A client for OCI registries that trusts none of them: bounded, verified by digest, and careful with credentials."""
