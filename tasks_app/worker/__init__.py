"""The worker process: it claims tasks, runs them and saves their images."""
