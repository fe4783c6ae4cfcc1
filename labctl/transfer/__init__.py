"""Blobs by digest: fetched from web servers and registries, pushed to registries, and cached on this machine."""
