"""`make bench`: what Countersign costs, each figure with its baseline in the same run. Nothing asserts a time."""
