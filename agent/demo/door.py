"""What stands before Gradio: a login for its MCP server, limits, and no way to its files.

Gradio asks for a login at its own routes, and not at the MCP server that it mounts beside them; it
counts neither uploads nor passwords that were tried; and it gives an upload, and any other file of
its cache, to whoever knows the path, which nothing of this page needs.
"""

from __future__ import annotations

import base64
import hmac

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.demo.line import Rate
from tools.errors import BadInput

MCP = "/gradio_api/mcp"
LIMITS = {"/gradio_api/upload": (60, 600.0), "/login": (20, 60.0)}
"""How often one address may ask for a path, and in how many seconds."""
_TRIED = (20, 60.0)
_CLOSED = ("/gradio_api/file", "/gradio_api/proxy", "/gradio_api/stream")
Account = tuple[str, str]


class Door:
    """ASGI middleware: 401 before a login, 429 for who came too often, 404 for Gradio's files."""

    def __init__(self, app: ASGIApp, account: Account | None = None) -> None:
        """`account` is who may use the MCP server, with the password; None: anybody."""
        self._app, self._account = app, account
        self._rates = {path: Rate(*limit) for path, limit in LIMITS.items()}
        self._tried = Rate(*_TRIED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        refused = self._refused(Request(scope)) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refused(self, request: Request) -> PlainTextResponse | None:
        path = str(request.scope["path"]).rstrip("/")
        user = request.client.host if request.client else ""
        if path.startswith(_CLOSED):
            return PlainTextResponse("Not found.", 404)
        try:
            if request.method == "POST" and path in self._rates:
                self._rates[path].count(user)
            if self._account is None or not path.startswith(MCP):
                return None
            self._tried.check(user)
            if not self._known(request, self._account):
                self._tried.count(user)
                ask = {"WWW-Authenticate": 'Basic realm="HistoPilot", charset="UTF-8"'}
                return PlainTextResponse("Log in first.", 401, ask)
        except BadInput as error:
            return PlainTextResponse(str(error), 429)
        return None

    def _known(self, request: Request, account: Account) -> bool:
        kind, _, said = request.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(said, validate=True) if kind.lower() == "basic" else b""
        except ValueError:
            return False
        return hmac.compare_digest(given, ":".join(account).encode())
