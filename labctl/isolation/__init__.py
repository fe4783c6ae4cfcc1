"""A lab in its own network namespace, with its own Docker Engine."""
