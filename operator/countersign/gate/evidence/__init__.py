"""Facts about images, gathered from registries and remembered."""
