"""The same for programs: two documented endpoints, which are the tools of the MCP server too.

Gradio reads types and docstrings at run time, so annotations here are no strings.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api
from gradio.utils import get_upload_folder

from agent.demo.conversation import Conversation
from agent.demo.desk import Desk
from agent.demo.guests import found, told, user_of
from tools.errors import BadInput

MCP_MISSING = 'the MCP server needs another package: pip install "histopilot[mcp]"'


def publish(desk: Desk) -> None:
    """Add the endpoints to the page that is being built."""

    def ask_image(
        image: FileData, instruction: str, request: gr.Request, mpp: float | None = None
    ) -> dict[str, Any]:
        """Answer an instruction about an H&E image with masks, boxes and measured figures.

        Args:
            image: the uploaded image file; over MCP a data: URL, no other address is fetched.
            instruction: what to outline, count, box or measure, in words.
            request: from Gradio, not from the caller.
            mpp: µm per pixel, where the file does not say; without it areas are in px.

        Returns:
            What result.json holds, with `conversation` for `ask_on`, and `files` by what they are.
        """
        with told():
            if not isinstance(mpp, int | float | None):
                raise BadInput("mpp is a number of µm per pixel")
            talk = desk.open(_uploaded(image), mpp, None, user_of(request))
        return _answered(desk, talk, instruction)

    def ask_on(conversation: str, instruction: str) -> dict[str, Any]:
        """Ask on about the image of an earlier answer, or say yes or no to its question.

        Args:
            conversation: as an earlier answer gave it; it is forgotten half an hour later.
            instruction: what to do, in words; it may refer to what was found ("box them").

        Returns:
            As `ask_image`.
        """
        return _answered(desk, found(desk, conversation), instruction)

    for endpoint in (ask_image, ask_on):
        api(endpoint, concurrency_limit=None)


def check_mcp() -> None:
    """See that the MCP server can be started.

    Raises:
        BadInput: its package is not installed.
    """
    try:
        import mcp.server.lowlevel  # noqa: F401
    except ImportError as error:
        raise BadInput(MCP_MISSING) from error


def _uploaded(image: Any) -> Path:
    """The file of an upload. Gradio checks only what says that it is a file, so it is done here.

    Raises:
        BadInput: it is no upload.
    """
    named = image.get("path") if isinstance(image, dict) else None
    path = Path(named if isinstance(named, str) and named.isprintable() else "").resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise BadInput("Only uploaded files are read.")
    return path


def _answered(desk: Desk, talk: Conversation, instruction: str) -> dict[str, Any]:
    with told():
        if not isinstance(instruction, str):
            raise BadInput("instruction is text")
        desk.ask(talk, instruction)
    for _ in talk.follow():
        pass
    return talk.told()
