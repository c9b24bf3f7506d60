"""Tests of what pictures tell of how they were made."""
