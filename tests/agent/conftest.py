"""Fixtures of the agent's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Pillow

from agent.demo.desk import Desk
from agent.session import Kit
from tests.agent import demo_server
from tests.agent.served import Served, serving
from tools.runtime import LocalRuntime


@pytest.fixture
def served() -> Iterator[Served]:
    """An endpoint on the loopback."""
    with serving() as state:
        yield state


@pytest.fixture
def skin_file(tmp_path, skin) -> Path:
    """The skin as a PNG without a pixel size."""
    path = tmp_path / "skin.png"
    Pillow.fromarray(skin.rgb).save(path)
    return path


@pytest.fixture
def fast_kit() -> Kit:
    return demo_server.quick_kit(LocalRuntime())


@pytest.fixture
def desk(fast_kit) -> Iterator[Desk]:
    desk = Desk(fast_kit)
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def demo() -> Iterator[demo_server.Served]:
    """The demo, served on the loopback."""
    with demo_server.serving() as served:
        yield served
