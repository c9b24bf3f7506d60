"""Unit tests run without servers."""

import pytest


@pytest.fixture(scope="session")
def servers() -> None:
    """Fail a test that would start PostgreSQL and Redis."""
    pytest.fail("A unit test needs no server: move it to tests/integration, or leave out the database.")
