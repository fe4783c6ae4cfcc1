"""Ingress rules as the ingress controllers read them."""
