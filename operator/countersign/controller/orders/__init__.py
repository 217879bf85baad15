"""What people order besides policies: exceptions and pauses."""
