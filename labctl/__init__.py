"""labctl: a real bare-metal Kubernetes networking lab from one command."""

__version__ = "0.1.0"
