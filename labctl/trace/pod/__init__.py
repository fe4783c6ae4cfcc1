"""The fifth hop: the pods that the rule routes to."""
