"""Transfer of bundles: to and from registries, and through a file."""
