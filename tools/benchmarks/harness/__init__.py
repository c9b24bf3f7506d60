"""Code that the benchmarks share: servers under test, clients, the bare pipeline and the tables."""
