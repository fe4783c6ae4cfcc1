"""Facts about this machine, and acts on it: programs, files, locks, addresses, names."""
