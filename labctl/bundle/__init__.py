"""Bundles: every artefact that a lab boots from, in one folder; how they are built, downloaded, pushed and pulled."""

from __future__ import annotations

from labctl.bundle.checksums import verify, verify_once
from labctl.bundle.format import DESCRIPTION, Bundle, File, Image, load, readable_bundles

__all__ = ["DESCRIPTION", "Bundle", "File", "Image", "load", "readable_bundles", "verify", "verify_once"]
