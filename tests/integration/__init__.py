"""Tests on PostgreSQL, Redis and torch."""
