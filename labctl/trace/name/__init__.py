"""The first hop: the name on this machine."""
