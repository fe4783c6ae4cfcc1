"""The third hop: the node that answers for the address, and whether a connection gets through it."""
