"""Move bundles: to and from registries, and through a file on a stick."""
