"""Fixtures of the agent's tests."""

from collections.abc import Iterator

import pytest

from tests.agent.served import Served, serving


@pytest.fixture
def served() -> Iterator[Served]:
    """An endpoint on the loopback."""
    with serving() as state:
        yield state
