"""Workloads of a cluster: what Countersign makes of each, the inventory of grants, and restarts."""
