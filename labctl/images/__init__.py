"""Images that users load into a lab: from archives, Docker and registries, kept for nodes that are added later."""
