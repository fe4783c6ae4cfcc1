"""The second hop: the Service that has the address."""
