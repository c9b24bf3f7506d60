"""A provider for tests, registered as any other app would register its own."""
