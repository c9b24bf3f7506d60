"""Tools of the project: benchmarks, the training of the demo model, and figures about the code."""
