"""A lab in a network namespace of its own, with a Docker Engine of its own."""
