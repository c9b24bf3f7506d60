"""Loading of a pipeline that is ready to run, from a model's files."""
