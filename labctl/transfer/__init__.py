"""Blobs by digest: fetched from web servers and registries, pushed to registries, and kept on this machine."""
