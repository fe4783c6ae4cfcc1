"""The fourth hop: the rule that matches the request."""
