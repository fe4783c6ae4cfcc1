"""The fifth hop: the pods that the rule leads to."""
