"""Image generation without Django: the handler protocol and its types, and one package per provider."""
