"""Images seen from here: the registries, with the user's Docker credentials, and what is found there."""
