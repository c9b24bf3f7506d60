"""Live events of tasks, published through Redis."""
