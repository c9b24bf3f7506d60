"""Image-generation tasks, from the POST to the PNG."""
