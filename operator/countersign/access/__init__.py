"""The decision at use, and the decision at minting. Pure: no I/O, no clock."""
