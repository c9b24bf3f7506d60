"""Benchmarks of the service's overhead, measured side by side in one run: `python -m tools.benchmarks.<name>`."""
