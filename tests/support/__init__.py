"""Helpers, fixtures' servers and fakes that tests share."""
