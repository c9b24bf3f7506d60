"""Tests of the service and its client."""
