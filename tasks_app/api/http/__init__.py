"""HTTP layer: authentication, limits, parsers, headers and errors."""
