"""Evidence roots: whom certificates, logs and timestamps go back to, and where that is learnt from."""
