"""OpenAPI 3.1 schema: `table.py` declares the endpoints, the other modules render them with drf-spectacular."""
