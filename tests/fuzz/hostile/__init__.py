"""Inputs designed to slow down a parser: doubling the input must at most double the work."""
