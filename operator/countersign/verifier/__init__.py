"""The request-time service: relying parties ask whether a token is active (RFC 7662). Several replicas, no state."""
