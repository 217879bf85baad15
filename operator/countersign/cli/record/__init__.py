"""`countersign trace`: the history of one identity, out of the cluster, the API server's audit log and our own logs."""
