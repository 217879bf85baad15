"""`countersign token check`: ask the verifier about a token, with the reason that a relying party never sees."""
