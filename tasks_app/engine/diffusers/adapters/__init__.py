"""LoRAs and textual-inversion embeddings."""
