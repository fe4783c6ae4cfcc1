"""A plan is a tuple of idempotent steps: the steps of a lab and the plans that they make up."""
