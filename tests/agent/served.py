"""A real HTTP server on the loopback that behaves as a test tells it to, as an OpenAI endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent.planners.openai_endpoint import Endpoint

KEY = "sk-test-0123456789-secret"
Answer = tuple[int, dict[str, str], bytes]
Behaviour = Callable[[dict[str, Any]], Answer | None]


def json_answer(status: int, body: Any, **headers: str) -> Answer:
    return status, {"content-type": "application/json", **headers}, json.dumps(body).encode()


def chat_answer(content: Any, tool_calls: Any = None) -> Answer:
    message = {"role": "assistant", "content": content, "tool_calls": tool_calls}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return json_answer(200, body)


def refusal(message: str, status: int = 400) -> Answer:
    return json_answer(status, {"error": {"message": message, "type": "invalid_request_error"}})


@dataclass
class Served:
    """A server that answers request after request as `behaviours` say, the last one for ever."""

    url: str = ""
    behaviours: list[Behaviour] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def endpoint(self, retries: int = 2, timeout_s: float = 20.0) -> Endpoint:
        return Endpoint(KEY, "m", self.url, timeout_s=timeout_s, retries=retries)


@contextmanager
def serving() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.seen.append(body)
            state.keys.append(self.headers["authorization"])
            behave = state.behaviours[min(len(state.seen), len(state.behaviours)) - 1]
            answer = behave(body)
            if answer is None:  # hang up without a word
                self.close_connection = True
                return
            status, headers, content = answer
            try:
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                pass  # the client gave up first, as a time-out test wants

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
