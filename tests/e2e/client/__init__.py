"""The Python client's tests."""
