"""The generated pages: one module for each, with a function `page` that returns the text."""
