"""What makes nodes exist."""
