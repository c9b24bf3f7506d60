"""Chaos tests with faults on real processes: guarantees must hold under kills, freezes and lost connections."""
