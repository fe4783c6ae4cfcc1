"""The pages that are generated from the sources: one module a page, each with a function `page`."""
