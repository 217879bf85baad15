"""What people order besides policies: revocations and pauses, and whom they reach."""
