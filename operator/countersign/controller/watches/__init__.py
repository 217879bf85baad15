"""The cluster as the controller sees it: kopf's watches, sweeps for what they missed, and what is kept of both."""
