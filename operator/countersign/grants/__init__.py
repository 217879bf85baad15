"""A grant's life: made, judged, suspended, revoked, collected. Pure functions of what was seen and of `now`."""
