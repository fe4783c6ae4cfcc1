"""Making a bundle from upstream's releases: its binaries, images and manifests, as they are published."""
