"""Countersign: workload identity that rests on evidence about this very pod."""

__version__ = "0.2.0"
