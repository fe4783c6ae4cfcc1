"""Everything a lab consists of, as text: templates, manifests, keys."""
