"""`histopilot demo`: serving the page.

No path and no URL is ever taken from a user: an image arrives as an upload, which is deleted ten
minutes later. Of a browser only words, clicks, a pixel size and its conversation's token are taken;
what a page shows is kept by the server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from agent.demo.api import check_mcp
from agent.demo.desk import MAX_OPEN, WORKERS, Desk
from agent.demo.files import asset, route
from agent.demo.page import NOTICE, build
from agent.session import Kit
from tools.errors import BadInput

MAX_UPLOAD = "200mb"
_THREADS = 4 * MAX_OPEN
"""Of the server: each page that follows a turn holds one while it waits."""
_FONT = ["system-ui", "sans-serif"]


def serve(desk: Desk, host: str, port: int | None, **options: Any) -> tuple[gr.Blocks, str]:
    """Serve the page of a desk.

    Args:
        desk: whose sessions are served.
        host: address to listen on.
        port: None takes a free one.
        options: further ones of `gradio.Blocks.launch`.

    Returns:
        The page and its address, once it is stopped (at once with `prevent_thread_lock`).
    """
    page = build(desk).queue(max_size=MAX_OPEN, api_open=False)
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        app_kwargs={"routes": [route(desk.file)]},
        max_file_size=MAX_UPLOAD,
        max_threads=_THREADS,
        run_history=False,
        share=False,
        ssr_mode=False,
        strict_cors=True,
        footer_links=["settings"],
        theme=gr.themes.Default(primary_hue="violet", font=_FONT, font_mono=["monospace"]),
        css=asset("page.css"),
        **options,
    )
    return page, url


def launch(
    address: tuple[str, int],
    kit: Callable[[], Kit],
    *,
    turns: int = WORKERS,
    auth: str | None = None,
    corrections: Path | None = None,
    mcp: bool = False,
) -> None:
    """Serve the page until it is stopped.

    Args:
        address: host and port to listen on.
        kit: loads the planner and the tools.
        turns: how many run at once.
        auth: `USER:PASSWORD_FILE`, None where anybody who reaches the page may use it.
        corrections: folder in which corrections are kept, with their traces; None keeps none.
        mcp: whether the MCP server listens too, at `/gradio_api/mcp/`.

    Raises:
        BadInput: one of them can't be used.
    """
    login = None if auth is None else account(auth)
    if mcp:
        check_mcp()
        if login:
            raise BadInput("--mcp has no login: leave --auth out, and listen on this machine only")
    if corrections is not None:
        try:
            corrections.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"can't keep --corrections in {corrections} ({error.strerror})"
            ) from error
    means = kit()
    desk = Desk(means, turns, corrections=corrections)
    try:
        serve(desk, *address, auth=login, auth_message=NOTICE, mcp_server=mcp)
    finally:
        desk.close()
        means.runtime.close()


def account(auth: str) -> tuple[str, str]:
    """The user and the password of `USER:PASSWORD_FILE`; a password is no argument of a command.

    Raises:
        BadInput: it is not that, or the file is empty or can't be read.
    """
    user, _, file = auth.partition(":")
    if not user or not file:
        raise BadInput("--auth is USER:PASSWORD_FILE")
    try:
        password = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the password file of --auth can't be read ({error})") from error
    if not password:
        raise BadInput("the password file of --auth is empty")
    return user, password
