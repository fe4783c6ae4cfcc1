"""What `trace` asks of the world: names, connections, requests, packet filters, logs."""
