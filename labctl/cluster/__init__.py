"""The client of the Kubernetes API, and the state of the live cluster."""
