"""The OpenAPI schema: `table.py` says what each endpoint is, the rest makes OpenAPI 3.1 of it with drf-spectacular."""
