"""Queued tasks in PostgreSQL: transitions, claim order, limits, pauses and workers."""
