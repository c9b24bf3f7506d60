"""Webhooks: deliveries as rows, signed payloads, and requests to allowed URLs only."""
