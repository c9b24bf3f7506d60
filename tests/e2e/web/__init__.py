"""Tests of the web UI at `/`: the server's HTML, and its behaviour in a real browser on the real service."""
