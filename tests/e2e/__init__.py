"""Real labs, looked at from outside labctl's own code. A package, so that it has a conftest beside the unit tests'."""
