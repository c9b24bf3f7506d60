"""Fuzz tests with malformed requests to the real web server, whose responses must always follow the contract."""
