"""Soak test: resource use of one worker over many tasks."""
