"""The Kubernetes API: the only door to it, and what the live cluster says."""
