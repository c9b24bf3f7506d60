"""Admin actions that require confirmation."""
