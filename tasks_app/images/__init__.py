"""Image files: storage, uploads, decoding, comparison and metadata."""
