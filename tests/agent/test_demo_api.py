"""The demo for programs: the typed endpoints, the MCP server, and what the replay page opens."""

import base64
import gzip
import sys
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from agent.demo import replay
from agent.demo.app import launch
from agent.demo.replay import replayed
from tests.agent.demo_server import Served, serving, turn
from tools.errors import BadInput


def test_a_program_asks_and_asks_on(demo: Served, skin_file) -> None:
    client = Client(demo.url, verbose=False)
    described = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(described) == ["/ask_image", "/ask_on"], "the page's own events are no API"
    names = {
        p["parameter_name"]: p["parameter_has_default"]
        for p in described["/ask_image"]["parameters"]
    }
    assert names == {"image": False, "instruction": False, "mpp": True}
    first = client.predict(handle_file(skin_file), "count the nuclei", 0.499, api_name="/ask_image")
    assert (first["status"], first["image"]["mpp"]) == ("completed", 0.499)
    count = first["masks"][0]["count"]
    assert first["measurements"]["$1"]["count"] == count > 50
    mask = httpx.get(demo.url + first["files"]["mask $1 (PNG)"])
    assert mask.headers["content-type"] == "image/png"
    on = client.predict(first["conversation"], "now box them", api_name="/ask_on")
    assert (on["status"], len(on["boxes"])) == ("completed", count)
    declined = client.predict(on["conversation"], "what grade is this cancer?", api_name="/ask_on")
    assert (declined["status"], declined["files"]) == ("declined", {})


def test_a_program_gets_no_url_fetched_and_no_path_read(demo: Served, skin_file) -> None:
    ask = f"{demo.url}gradio_api/call/ask_image"
    for lie in ("http://127.0.0.1:1/x.png", str(skin_file), 5, None):
        meta = {"_type": "gradio.FileData"}
        for image in ({"path": lie, "meta": meta}, {"path": lie}, lie):
            event = httpx.post(ask, json={"data": [image, "count", None]}).json()["event_id"]
            assert "event: error" in httpx.get(f"{ask}/{event}").text, image
    client = Client(demo.url, verbose=False)
    for key in ("x", {"a": 1}, None):
        with pytest.raises(AppError, match="Open an image"):
            client.predict(key, "count the nuclei", api_name="/ask_on")
    with pytest.raises(AppError, match="mpp is a number"):
        client.predict(handle_file(skin_file), "count the nuclei", "0.5", api_name="/ask_image")
    with pytest.raises(AppError, match="instruction is text"):
        client.predict(handle_file(skin_file), 5, None, api_name="/ask_image")


def test_without_its_package_the_mcp_server_says_what_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.lowlevel", None)
    with pytest.raises(BadInput, match=r"pip install \"histopilot\[mcp\]\""):
        launch(("127.0.0.1", 0), pytest.fail, mcp=True)


def over_mcp(url: str, picture: Path, **headers: str) -> tuple[list[str], str, str]:
    """The names of the tools, what is said to a URL, and an answer."""
    import anyio
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    data = base64.b64encode(picture.read_bytes()).decode()

    async def told() -> tuple[list[str], str, str]:
        async with (
            streamablehttp_client(f"{url}gradio_api/mcp/", headers) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = await session.list_tools()
            about = {"instruction": "outline the tissue", "image": "http://127.0.0.1:1/x.png"}
            refused = await session.call_tool("ask_image", about)
            about["image"] = f"data:image/png;base64,{data}"
            answer = await session.call_tool("ask_image", about)
            names = [tool.name for tool in tools.tools]
            return names, refused.content[0].text, answer.content[0].text

    return anyio.run(told)


def test_another_agent_uses_it_over_mcp(skin_file) -> None:
    pytest.importorskip("mcp.server.lowlevel", reason="the mcp extra is not installed")
    with serving(mcp=True) as served:
        names, refused, answer = over_mcp(served.url, skin_file)
    assert sorted(names) == ["ask_image", "ask_on"]
    assert "Only uploaded files are read" in refused
    assert "The tissue covers" in answer


def test_another_agent_logs_in_first_where_people_do(skin_file) -> None:
    pytest.importorskip("mcp.server.lowlevel", reason="the mcp extra is not installed")
    with serving(mcp=True, account=("ada", "correct: horse")) as served:
        basic = httpx.BasicAuth("ada", "correct: horse")
        sign = next(basic.auth_flow(httpx.Request("GET", served.url))).headers["authorization"]
        assert "The tissue covers" in over_mcp(served.url, skin_file, Authorization=sign)[2]
        wrong = ("Basic YWRhOm5v", "Basic \xe9", "Basic", "Bearer x", "")
        for path in ("mcp", "mcp/", "mcp/schema", "mcp/sse", "%6dcp/", "mcp/messages/"):
            for said in wrong[: 1 if path != "mcp" else None]:
                headers = {"Authorization": said.encode("latin-1")}
                asked = httpx.post(f"{served.url}gradio_api/{path}", headers=headers)
                assert asked.status_code == 401, (path, said)
        tried = [httpx.get(f"{served.url}gradio_api/mcp").status_code for _ in range(20)]
        assert tried[-1] == 429
        right = httpx.get(f"{served.url}gradio_api/mcp/schema", headers={"Authorization": sign})
        assert right.status_code == 429, "else a password could be guessed on"


@pytest.fixture
def bundle(desk, skin_file):
    """The bundle of a turn that counts nuclei in the epidermis."""
    talk = desk.open(skin_file, 0.499)
    turn(talk, "count the nuclei inside the epidermis")
    name = next(name for name in talk.files if name.endswith("trace.zip"))
    return talk.file(name)


def test_a_bundle_is_stepped_through_and_compared(desk, skin_file, bundle) -> None:
    steps, nothing = replayed(bundle, None)
    assert nothing == ""
    assert steps.count("<section") > 8
    assert steps.count("<img") == 3, "nothing yet, the epidermis, its nuclei"
    assert "call.end $3 count_nuclei within $2" in steps
    talk = desk.open(skin_file, 0.499)
    turn(talk, "count the nuclei inside the epidermis")
    (trace,) = talk.asked
    assert "The two runs are identical" in replayed(bundle, trace)[1]
    turn(talk, "count the nuclei")
    _, differs = replayed(list(talk.asked)[1], bundle)
    assert "The two runs are different" in differs
    assert "differs" in differs


def test_markup_in_a_trace_stays_text(desk, skin_file) -> None:
    talk = desk.open(skin_file)
    turn(talk, "outline the tissue <script>alert(1)</script>")
    (trace,) = talk.asked
    steps, differences = replayed(trace, trace)
    assert "<script>" not in steps + differences
    assert "&lt;script&gt;" in steps


def test_a_bundle_that_is_none_or_a_bomb_is_refused(bundle, tmp_path, monkeypatch) -> None:
    words = tmp_path / "words.zip"
    words.write_text("no zip")
    with pytest.raises(BadInput, match="not the bundle"):
        replayed(words, None)
    with zipfile.ZipFile(words, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    with pytest.raises(BadInput, match="not a bundle"):
        replayed(words, None)
    with monkeypatch.context() as patch:
        patch.setattr(replay, "MAX_UNPACKED", 1000)
        with pytest.raises(BadInput, match="unpack to more"):
            replayed(bundle, None)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bundle) as whole, zipfile.ZipFile(bomb, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith(".gz"):
                packed = tmp_path / "array.gz"
                with gzip.open(packed, "wb") as file:
                    shape = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)}
                    np.lib.format.write_array_header_1_0(file, shape)
                content = packed.read_bytes()
            archive.writestr(name, content)
    with pytest.raises(BadInput, match="too large to be shown"):
        replayed(bomb, None)


def test_an_upload_is_replayed_on_the_page(demo: Served, bundle) -> None:
    client = Client(demo.url, verbose=False)
    file = handle_file(bundle)
    steps, differences = client.predict(None, None, file, file, None, api_name="/show")
    assert "count_nuclei within $2" in steps
    assert "The two runs are identical" in differences
    with pytest.raises(AppError, match="Ask something first"):
        client.predict(None, None, None, None, None, api_name="/show")
