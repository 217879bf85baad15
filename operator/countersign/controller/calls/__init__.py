"""Questions to gates and verifiers."""
