"""Answers that last: event streams and `Prefer: wait`."""
