"""Tools of the project: benchmarks, training of the demo model, and readability figures of the code."""
