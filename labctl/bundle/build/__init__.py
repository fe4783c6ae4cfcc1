"""Building a bundle from package registries."""
