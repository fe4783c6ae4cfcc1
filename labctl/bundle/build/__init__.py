"""Making a bundle from package registries."""
