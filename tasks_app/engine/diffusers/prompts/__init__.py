"""Prompt weighting and cached prompt embeddings."""
