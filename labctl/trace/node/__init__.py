"""The third hop: the node that announces the address, and whether it forwards connections."""
