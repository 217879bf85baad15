"""Policies ready for judgement: which govern, what they say together, whose audiences they hand out."""
