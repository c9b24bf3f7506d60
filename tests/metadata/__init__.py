"""Tests of the generation metadata in images."""
