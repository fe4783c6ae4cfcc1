"""Make bundles from upstream's releases: its binaries, its images and its manifests, as they are published."""
