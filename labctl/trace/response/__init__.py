"""The last hop: who answered, and whether a browser is served."""
