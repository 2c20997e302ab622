"""Words of the server as the page shows them."""

from __future__ import annotations

import html
from typing import Any

MPP_FIELD = "µm per pixel"


def in_browser(text: str) -> str:
    """A text that names options of the command line, as it names the page's own field."""
    text = text.partition(": use --")[0]
    again = f"fill in “{MPP_FIELD}” and open the image again"
    return text.replace("give --mpp", again).replace("--mpp ", f"{MPP_FIELD}: ")


def as_text(message: dict[str, Any]) -> dict[str, Any]:
    """A message that the chat shows as it is: it would take markup for markup."""
    words = message["content"] if message["role"] == "user" else in_browser(message["content"])
    shown = {**message, "content": html.escape(words)}
    if "metadata" in message:
        title = html.escape(message["metadata"]["title"])
        shown["metadata"] = {**message["metadata"], "title": title}
    return shown
