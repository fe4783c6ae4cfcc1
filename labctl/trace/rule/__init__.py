"""The fourth hop: the rule that takes the request."""
