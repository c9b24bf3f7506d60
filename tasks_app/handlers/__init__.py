"""The engines: one folder each. They never import Django."""
