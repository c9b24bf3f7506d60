"""Web UI at `/`."""
