"""Images that users load into a lab: from archives, Docker and registries, kept for the nodes that come later."""
