"""APIs that existing clients speak, thin over what `POST /task` does."""
