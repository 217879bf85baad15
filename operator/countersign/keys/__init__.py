"""Keys and certificates: the CA and its serving certificates, receipt keys, and the Secrets that hold them."""
