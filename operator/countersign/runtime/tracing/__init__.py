"""Traces, if somebody wants them: spans, W3C Trace Context, OTLP. Whoever is not asked to trace loads `spans` only."""
