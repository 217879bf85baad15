"""Who vouches for a signature's certificate and time: CAs, logs, timestamp authorities; the steps in `proofs`."""
