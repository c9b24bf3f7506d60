"""Image-generation tasks, from the POST request to the image file."""
