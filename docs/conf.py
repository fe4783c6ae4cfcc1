"""Sphinx's configuration: Markdown pages, read by MyST, in the theme Furo."""

from __future__ import annotations

from importlib import metadata

project = "labctl"
version = release = metadata.version("labctl-k8s")

extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = f"labctl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
