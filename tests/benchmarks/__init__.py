"""The benchmarks in their short form: they run, and what they count stays within bounds."""
