"""Admission: `/mutate` and `/validate`. Stateless but for watches and caches of facts; several replicas."""
