"""The patch that an admitted pod receives: digests, token volumes, receipt."""
