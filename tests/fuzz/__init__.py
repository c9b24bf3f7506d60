"""Requests that nobody means to send, at the real web server: whatever comes in, the contract holds."""
