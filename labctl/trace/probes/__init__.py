"""Measurements that `trace` makes: names, connections, requests, packet filters, logs."""
