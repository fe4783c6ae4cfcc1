"""How MetalLB allocates addresses."""
