"""What people order besides policies: revocations, pauses and exceptions, and whom they reach."""
