"""Promises to the first users; no later change edits these tests."""
