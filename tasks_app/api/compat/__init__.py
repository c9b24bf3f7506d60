"""Compatibility APIs, for clients that already use those of other services."""
