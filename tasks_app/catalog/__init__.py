"""The models that this server has and allows."""
