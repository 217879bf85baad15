"""The Kubernetes API as Countersign uses it: calls, watches, leader election, Events, reviews, the issuer's keys."""
