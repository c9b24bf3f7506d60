"""HTTP itself: authentication, limits, parsers, headers and errors."""
