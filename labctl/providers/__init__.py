"""What makes nodes: Docker, libvirt or VirtualBox."""
