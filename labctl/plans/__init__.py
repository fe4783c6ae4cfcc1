"""Plans of a lab: `up`, `resume`, `halt` and `destroy`, each a tuple of idempotent steps."""
