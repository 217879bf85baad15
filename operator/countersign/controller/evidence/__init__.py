"""What becomes of evidence while pods run: outlooks, verification anew, and evidence roots."""
