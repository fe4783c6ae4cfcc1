"""The second hop: who owns the address."""
