"""Inputs made to keep a parser busy: doubling one must not do more than double the work."""
