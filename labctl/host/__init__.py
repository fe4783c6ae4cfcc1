"""Facts about this machine, and changes to it: programs, files, locks, addresses, names."""
