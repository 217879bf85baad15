"""Certificates, receipt keys, and who owns what we create."""
