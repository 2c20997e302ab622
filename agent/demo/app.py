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
from gradio_client import Client
from starlette.middleware import Middleware
from starlette.requests import Request

from agent.demo.api import check_mcp
from agent.demo.desk import MAX_OPEN, WORKERS, Desk
from agent.demo.door import Account, Door
from agent.demo.files import asset, route
from agent.demo.page import NOTICE, build
from agent.session import Kit
from tools.errors import BadInput

MAX_UPLOAD = "200mb"
_THREADS = 4 * MAX_OPEN
"""Of the server: each page that follows a turn holds one while it waits."""
_FONT = ["system-ui", "sans-serif"]


def serve(
    desk: Desk,
    address: tuple[str, int | None],
    *,
    account: Account | None = None,
    auth_dependency: Callable[[Request], str | None] | None = None,
    mcp: bool = False,
    quiet: bool = False,
) -> tuple[gr.Blocks, str]:
    """Serve the page of a desk, in threads of its own.

    Args:
        desk: whose sessions are served.
        address: host and port to listen on; None takes a free port.
        account: who may use it, None: who reaches it.
        auth_dependency: a login of one's own in its place: names the user of a request, or None.
        mcp: whether the MCP server listens too, at `/gradio_api/mcp/`.
        quiet: prints nothing.

    Returns:
        The page and its address.

    Raises:
        BadInput: the MCP server is wanted with a login of one's own, which it does not ask.
    """
    if mcp and auth_dependency:
        raise BadInput("the MCP server knows no login but --auth")
    page = build(desk).queue(max_size=MAX_OPEN, api_open=False)
    _, url, _ = page.launch(
        server_name=address[0],
        server_port=address[1],
        prevent_thread_lock=True,
        quiet=quiet,
        auth=account,
        auth_dependency=auth_dependency,
        auth_message=NOTICE,
        mcp_server=mcp,
        app_kwargs={
            "routes": [route(desk.file)],
            "middleware": [Middleware(Door, account=account)],
        },
        max_file_size=MAX_UPLOAD,
        max_threads=_THREADS,
        run_history=False,
        share=False,
        ssr_mode=False,
        strict_cors=True,
        footer_links=["settings"],
        theme=_theme(),
        css=asset("page.css"),
    )
    if mcp and account:
        _log_in(page, url, account)
    return page, url


def _theme() -> gr.themes.Base:
    """Gradio's default with our colour; what is too faint there to be read by many is darker."""
    theme = gr.themes.Default(primary_hue="violet", font=_FONT, font_mono=["monospace"])
    faint, strong = "*neutral_600", "*primary_700"
    return theme.set(
        body_text_color_subdued=faint,
        input_placeholder_color=faint,
        button_primary_background_fill=strong,
        button_primary_background_fill_dark=strong,
    )


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
    login = None if auth is None else account_of(auth)
    if mcp:
        check_mcp()
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
        page, _ = serve(desk, address, account=login, mcp=mcp)
        page.block_thread()
    finally:
        desk.close()
        means.runtime.close()


def _log_in(page: Any, url: str, account: Account) -> None:
    """Gradio's MCP server asks its own page through a client, which here has to log in."""
    page.mcp_server_obj._client_instance = Client(
        url, auth=account, headers={"x-gradio-user": "mcp"}, download_files=False, verbose=False
    )


def account_of(auth: str) -> Account:
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
