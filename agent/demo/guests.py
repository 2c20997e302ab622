"""What every handler of the page does first: who asks, and about which conversation."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from agent.demo.conversation import Conversation
from agent.demo.desk import Desk
from tools.errors import BadInput


@contextmanager
def told() -> Iterator[None]:
    """Bad input is shown to its user, as text; it is not logged as a fault."""
    try:
        yield
    except BadInput as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from None


def found(desk: Desk, token: str | None) -> Conversation:
    """The conversation of a token; where there is none, its user is told so."""
    talk = desk.find(token)
    if talk is None:
        raise gr.Error("Open an image or a sample first.", print_exception=False)
    return talk


def number_of(words: str | None) -> float | None:
    """The number in a field, None where it is empty.

    Raises:
        BadInput: it is none.
    """
    try:
        return float((words or "").strip().replace(",", ".")) if words else None
    except ValueError:
        raise BadInput(f"{words} is no number: give the µm per pixel, as in 0.25") from None


def user_of(request: gr.Request) -> str:
    """Whom limits are counted for: the address that a request comes from."""
    return str(request.client.host) if request.client else ""
