"""Real labs, checked without labctl's own code. A package, so that its conftest does not clash with the unit tests'."""
