"""Orders that people give: Revocations, pauses, receipt keys withdrawn."""
