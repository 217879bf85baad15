"""Policies in files: a first one, the manifests read strictly, and trials of them."""
