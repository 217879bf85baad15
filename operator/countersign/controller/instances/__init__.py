"""Following pods: the grant that each should have, its state, and how its tokens are used."""
