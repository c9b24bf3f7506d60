"""Text-to-image tasks, from the POST to the picture."""
