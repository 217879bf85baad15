"""Image signatures: bytes in, facts out. Nothing here talks to a network or knows a policy."""
