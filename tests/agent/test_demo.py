"""The demo, served for real and talked to over HTTP as a browser does."""

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image as Pillow

from agent.demo import Desk, build
from agent.session import Kit


@pytest.fixture
def server(rules_kit: Kit):
    page = build(Desk(rules_kit)).queue()
    _, url, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, run_history=False
    )
    yield url
    page.close()


def texts(messages) -> list[str]:
    """The plain text of each chat message."""
    found = []
    for message in messages:
        content = message["content"]
        parts = content if isinstance(content, list) else [content]
        found.append("".join(p["text"] if isinstance(p, dict) else str(p) for p in parts))
    return found


def test_a_conversation_about_the_sample(server) -> None:
    client = Client(server, verbose=False)
    picture, _ = client.predict(api_name="/start_sample")
    assert Pillow.open(picture).size[0] >= 1200
    messages, overlay = client.predict("count the nuclei", [], api_name="/say")
    said = texts(messages)
    assert said[0] == "count the nuclei"
    assert any("count_nuclei" in text for text in said[1:-1])
    assert "nuclei were found" in said[-1]
    assert Pillow.open(overlay).size[0] >= 1200
    messages, _ = client.predict("now box them", messages, api_name="/say")
    assert "boxes, one for each nucleus" in texts(messages)[-1]


def test_a_guard_question_is_answered(server, tmp_path) -> None:
    path = tmp_path / "grey.png"
    Pillow.linear_gradient("L").save(path)
    client = Client(server, verbose=False)
    client.predict(handle_file(path), None, api_name="/start")
    messages, _ = client.predict("count the nuclei", [], api_name="/say")
    assert "does not look like an H&amp;E image" in texts(messages)[-1]
    messages, _ = client.predict(messages, api_name="/answer_no")
    assert "Nothing was measured" in texts(messages)[-1]


def test_sessions_do_not_share_an_image_and_markup_stays_text(server) -> None:
    first, second = Client(server, verbose=False), Client(server, verbose=False)
    first.predict(api_name="/start_sample")
    with pytest.raises(AppError, match="Upload an image"):
        second.predict("count the nuclei", [], api_name="/say")
    messages, _ = first.predict("<script>alert(1)</script>", [], api_name="/say")
    assert "<script>" not in "".join(texts(messages))


def test_a_file_that_is_no_image_is_told(server, tmp_path) -> None:
    path = tmp_path / "words.png"
    path.write_text("not an image")
    with pytest.raises(AppError, match=r"words\.png"):
        Client(server, verbose=False).predict(handle_file(path), None, api_name="/start")
