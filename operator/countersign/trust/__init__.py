"""What a pod must show, and what the policies make of it. Pure functions of their arguments."""
