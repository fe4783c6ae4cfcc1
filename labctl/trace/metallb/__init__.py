"""Addresses as MetalLB gives them."""
