"""The sixth hop: which pods answer, and whether a browser gets its page."""
