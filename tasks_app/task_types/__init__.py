"""The registry of task types and their parameters."""
