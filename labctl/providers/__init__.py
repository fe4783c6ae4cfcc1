"""Providers of nodes: Docker, libvirt and VirtualBox."""
