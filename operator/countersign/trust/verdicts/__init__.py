"""The verdict: what all policies make of a pod, and how its author is told."""
