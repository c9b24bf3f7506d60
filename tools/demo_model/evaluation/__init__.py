"""Metrics of the demo model."""
