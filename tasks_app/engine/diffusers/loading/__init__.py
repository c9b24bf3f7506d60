"""From a model's files to a pipeline that is ready to run."""
