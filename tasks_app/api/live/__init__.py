"""Long-lived responses: event streams and `Prefer: wait`."""
