"""The demo's rooms behind the page: conversations, files, what a client that lies can reach."""

import html
import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image as Pillow

from agent.demo.app import account_of
from agent.demo.conversation import AFTER_INSTANCES, AFTER_REGION, NO, YES
from agent.demo.desk import IDLE_S, QUESTIONS, SAMPLES, Desk
from agent.demo.drawings import figures, findings, plan_graph
from agent.demo.picture import TILE, levels_of, picture_of, tile_of
from agent.demo.steps import Steps
from tests.agent.demo_server import Served, serving, turn, waited
from tools.arrays import MemoryStore
from tools.errors import BadInput
from tools.execute import CallRequest, ImageHandle


@pytest.mark.parametrize("upload", [True, False])
def test_every_suggestion_is_answered_with_a_measurement(rules_kit, skin_file, upload) -> None:
    desk = Desk(rules_kit)
    for first in QUESTIONS if upload else SAMPLES["Skin, H&E"].questions[:2]:
        talk = desk.open(skin_file, 0.499, None)
        said = turn(talk, first)
        assert said[1]["metadata"]["title"] == "Completed", (first, said[-1]["content"])
        offered = tuple(option["value"] for option in said[-1]["options"])
        assert offered in (AFTER_INSTANCES, AFTER_REGION)
        for follow_up in offered:
            said = turn(talk, follow_up)
            assert said[1]["metadata"]["title"] == "Completed", (first, follow_up)


def test_a_reload_in_the_middle_sees_the_same_and_steps_are_timed(desk, skin_file) -> None:
    talk = desk.open(skin_file, 0.499, None)
    talk.say("count the nuclei inside the epidermis")
    with pytest.raises(BadInput, match="still being worked on"):
        talk.say("count the nuclei")
    for _ in zip(talk.follow(), talk.follow(), strict=False):
        pass
    messages, plan, viewer, found = talk.shown()
    steps = [m["metadata"] for m in messages if m.get("metadata", {}).get("parent_id")]
    assert steps[0]["title"] == "Plan"
    assert any(step["title"].startswith("$3 count nuclei") for step in steps)
    assert all(step["status"] == "done" and step["duration"] >= 0 for step in steps)
    assert plan.count('class="done"') == 3
    assert "Measured" in found
    assert talk.file(viewer["features"]).is_file()


def test_a_guard_question_is_asked_and_both_answers_count(desk, tmp_path) -> None:
    path = tmp_path / "grey.png"
    Pillow.linear_gradient("L").save(path)
    talk = desk.open(path, None, None)
    asked = turn(talk, "count the nuclei")[-1]
    assert [option["value"] for option in asked["options"]] == [YES, NO]
    assert "Nothing was measured" in turn(talk, NO)[-1]["content"]
    turn(talk, "count the nuclei")
    assert "found" in turn(talk, "yes.")[-1]["content"]


def test_an_idle_conversation_is_deleted_and_another_image_replaces_one(
    desk, skin_file, monkeypatch
) -> None:
    first = desk.open(skin_file, None, None)
    second = desk.open(skin_file, None, first.token)
    assert desk.find(first.token) is None
    second.used -= IDLE_S + 1
    third = desk.open(skin_file, None, None)
    assert (desk.find(second.token), desk.find(third.token)) == (None, third)
    monkeypatch.setattr("agent.demo.desk.MAX_OPEN", 2)
    fourth = desk.open(skin_file, None, None)
    assert desk.find(third.token) is third
    fifth = desk.open(skin_file, None, None)
    assert (desk.find(fourth.token), desk.find(fifth.token)) == (None, fifth)
    waited(lambda: not first.folder.exists() and not second.folder.exists())


def test_a_fault_inside_ends_the_turn_without_its_details(desk, skin_file, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("/secret/path")

    monkeypatch.setattr("agent.demo.result.write_results", broken)
    talk = desk.open(skin_file, None, None)
    said = turn(talk, "outline the tissue")
    assert said[-1]["content"] == "HistoPilot failed inside (OSError)."
    assert not talk.running


def test_tiles_hold_the_image_at_full_resolution(tmp_path) -> None:
    rgb = np.zeros((TILE + 10, TILE * 2 + 1, 3), np.uint8)
    rgb[:, TILE:] = (200, 30, 90)
    Pillow.fromarray(rgb).save(tmp_path / "image.png")
    picture = picture_of(tmp_path / "image.png", None, tmp_path)
    assert levels_of(picture) == 3
    sizes = {
        (level, column, row): Pillow.open(io.BytesIO(tile)).size
        for level in range(4)
        for column in range(4)
        for row in range(3)
        if (tile := tile_of(picture, level, column, row))
    }
    assert len(sizes) == 6 + 2 + 1
    assert sizes[2, 0, 0] == (257, 131)
    edge = np.asarray(Pillow.open(io.BytesIO(tile_of(picture, 0, 2, 1))))
    assert edge.shape == (10, 1, 3)
    assert np.abs(edge.astype(int) - (200, 30, 90)).max() < 8


def test_words_from_outside_are_text_in_the_drawings() -> None:
    evil = "<script>alert(1)</script>"
    steps = Steps("turn")
    steps.take("plan.start", {}, {})
    call = {"tool": "segment", "args": {"target": evil, "within": None, "outside": None}}
    data = {"plan": {"calls": [call], "first": 1}, "error": None}
    steps.take("plan.end", data, {"seconds": 0.1})
    drawn = figures({"measurements": {"$1": {evil: 1}}}, steps.calls, [])
    drawn = plan_graph(steps) + findings(drawn, {evil: f'x" onclick="{evil}'})
    assert "<script>" not in drawn
    assert 'x" onclick' not in drawn
    assert html.escape(evil) in drawn


def test_a_client_gets_no_file_no_url_and_no_other_conversation(demo: Served, skin_file) -> None:
    client = Client(demo.url, verbose=False)
    token = client.predict(handle_file(skin_file), None, None, api_name="/start")[0]
    held = httpx.get(f"{demo.url}histopilot/{token}/tile-0-0-0.jpg")
    assert held.headers["content-type"] == "image/jpeg"
    assert "sandbox" in held.headers["content-security-policy"]
    for path in (f"{token[:-1]}/tile-0-0-0.jpg", f"{token}/..%2Fthread%2Fthread.sqlite"):
        assert httpx.get(f"{demo.url}histopilot/{path}").status_code == 404
    start = f"{demo.url}gradio_api/call/start"
    for lie in ("http://127.0.0.1:1/x.png", str(skin_file)):
        file = {"path": lie, "meta": {"_type": "gradio.FileData"}}
        event = httpx.post(start, json={"data": [file, None, None]}).json()["event_id"]
        assert "event: error" in httpx.get(f"{start}/{event}").text
    say = f"{demo.url}gradio_api/call/say"
    words = {"path": "http://127.0.0.1:1/x", "meta": {"_type": "gradio.FileData"}}
    event = httpx.post(say, json={"data": [words, token]}).json()["event_id"]
    assert "Only uploaded files" in httpx.get(f"{say}/{event}").text
    with pytest.raises(AppError, match="Open an image"):
        client.predict("count the nuclei", "x" * 43, api_name="/say")


def test_two_users_open_the_same_file(demo: Served, skin_file) -> None:
    """Gradio names an upload by its content: what one user opened must still be there."""
    client = Client(demo.url, verbose=False)
    path = client.predict(handle_file(skin_file), None, None, api_name="/start")
    files = httpx.post(
        f"{demo.url}gradio_api/upload", files={"files": ("skin.png", skin_file.read_bytes())}
    ).json()
    first, second = (
        client.predict(
            {"path": files[0], "meta": {"_type": "gradio.FileData"}}, None, None, api_name="/start"
        )[0]
        for _ in range(2)
    )
    assert len({path[0], first, second}) == 3
    assert Path(files[0]).is_file()


def test_words_are_checked_before_they_are_kept(desk, skin_file) -> None:
    talk = desk.open(skin_file, None, None)
    before = talk.shown()[0]
    for words in ("x" * 4001, " ", "?!"):
        with pytest.raises(BadInput, match="instruction"):
            talk.say(words)
    assert talk.shown()[0] == before
    assert not talk.running


def test_a_stopped_turn_has_its_place_until_it_ends(skin_file) -> None:
    with serving() as served:
        talk = served.desk.open(skin_file, None, None)
        served.gate.clear()
        threads = []
        for _ in range(5):
            talk.say("count the nuclei")
            waited(lambda: len(served.gate.waiting) == 1)
            talk.stop()
            threads.append(threading.active_count())
        talk.say("outline the tissue")
        assert len(served.gate.waiting) == 1, "two turns of one conversation run"
        assert max(threads) <= threads[0]
        other = served.desk.open(skin_file, None, None)
        other.say("outline the tissue")
        waited(lambda: len(served.gate.waiting) == 2)
        third = served.desk.open(skin_file, None, None)
        third.say("outline the tissue")
        assert third.shown()[0][2]["metadata"]["title"] == "Waiting: place 2 in the line"
        served.gate.set()
        for one in (talk, other, third):
            waited(lambda one=one: not one.running)
            assert "The tissue covers" in one.shown()[0][-1]["content"]


def test_one_user_may_not_ask_or_open_too_often(fast_kit, skin_file) -> None:
    desk = Desk(fast_kit, opened=(2, 60), asked=(1, 60))
    talk = desk.open(skin_file, None, None, "ada")
    desk.open(skin_file, None, None, "ada")
    with pytest.raises(BadInput, match=r"too fast.* try again in (59|60) s"):
        desk.open(skin_file, None, None, "ada")
    assert desk.open(skin_file, None, None, "bob") is not talk
    desk.ask(talk, "outline the tissue")
    with pytest.raises(BadInput, match="too fast"):
        desk.ask(talk, "outline the tissue")
    waited(lambda: not talk.running)
    desk.close()


def test_of_too_many_pages_of_a_conversation_the_first_goes(demo: Served, skin_file) -> None:
    talk = demo.desk.open(skin_file, None, None)
    demo.gate.clear()
    talk.say("outline the tissue")
    pages = [talk.follow() for _ in range(5)]
    for page in pages:
        next(page)
    demo.gate.set()
    waited(lambda: not talk.running)
    assert list(pages[0]) == []
    assert list(pages[1]) == [None]


def test_the_page_names_its_own_field_and_no_option(demo: Served, skin_file, tmp_path) -> None:
    bare = tmp_path / "bare.png"
    Pillow.open(skin_file).save(bare)
    talk = demo.desk.open(bare, None, None)
    text = turn(talk, "count the nuclei")[-1]["content"]
    assert "give the µm per pixel" in text
    client = Client(demo.url, verbose=False)
    with pytest.raises(AppError, match="99 µm per pixel is not a pixel size") as told:
        client.predict(handle_file(bare), "99", None, api_name="/start")
    assert "--" not in str(told.value) + text


def test_who_comes_third_is_told_a_place_and_leaves_it_by_stopping(demo: Served, skin_file) -> None:
    clients = [Client(demo.url, verbose=False) for _ in range(4)]
    tokens = [c.predict(handle_file(skin_file), None, None, api_name="/start")[0] for c in clients]
    demo.gate.clear()
    for client, token in zip(clients, tokens, strict=True):
        client.submit("count the nuclei", token, api_name="/say")
        talk = demo.desk.find(token)
        waited(lambda talk=talk: talk.running)

    def titles() -> list[str]:
        return [demo.desk.find(t).shown()[0][2]["metadata"]["title"] for t in tokens]

    waited(lambda: titles()[3] == "Waiting: place 2 in the line")
    assert titles()[:3] == ["Working", "Working", "Waiting: place 1 in the line"]
    page = clients[2].predict(tokens[2], api_name="/halt")
    assert page[0][-1]["content"][0]["text"] == "Stopped. Nothing was answered."
    assert titles()[3] == "Waiting: place 1 in the line"
    demo.gate.set()
    last = demo.desk.find(tokens[3])
    waited(lambda: not last.running)
    assert "nuclei were found" in last.shown()[0][-1]["content"]


def test_a_file_that_is_no_image_is_told(demo: Served, tmp_path) -> None:
    path = tmp_path / "words.png"
    path.write_text("not an image <b>")
    with pytest.raises(AppError, match=r"words\.png: not an image"):
        Client(demo.url, verbose=False).predict(handle_file(path), None, None, api_name="/start")


def test_other_sites_may_not_read_and_strangers_log_in_first(tmp_path) -> None:
    secret = tmp_path / "password"
    secret.write_text("correct horse\n")
    with serving(account=account_of(f"ada:{secret}")) as served:
        assert httpx.get(f"{served.url}config").status_code == 401
        login = {"username": "ada", "password": "correct horse"}
        elsewhere = {"Origin": "https://elsewhere.example"}
        with httpx.Client(base_url=served.url) as client:
            assert client.post("login", data={**login, "password": "no"}).status_code == 400
            assert client.post("login", data=login).status_code == 200
            answer = client.get("config", headers=elsewhere)
            assert answer.headers.get("access-control-allow-origin") != elsewhere["Origin"]
            assert "run_history" not in answer.text or '"run_history":false' in answer.text


def test_a_login_of_ones_own_is_asked_at_every_request() -> None:
    def who(request) -> str | None:
        return request.headers.get("x-user")

    with serving(auth_dependency=who) as served:
        for path in ("config", "gradio_api/info"):
            assert httpx.get(served.url + path).status_code == 401
            assert httpx.get(served.url + path, headers={"X-User": "ada"}).status_code == 200


def test_nothing_of_gradios_own_is_open(demo: Served, skin_file) -> None:
    upload = {"files": ("<img src=x onerror=alert(1)>.png", skin_file.read_bytes())}
    (kept,) = httpx.post(f"{demo.url}gradio_api/upload", files=upload).json()
    folder = next(iter(demo.desk._known.values())).folder if demo.desk._known else ""
    for path in (kept, "/etc/passwd", __file__, f"{folder}/image.npy", "http://127.0.0.1:1/x"):
        for door in ("file=", "file/", "proxy=", "stream/"):
            asked = httpx.get(f"{demo.url}gradio_api/{door}{path}")
            assert asked.status_code == 404, (door, path)
    for page in ("config", ""):
        assert str(Path(__file__).parents[2]) not in httpx.get(demo.url + page).text
    evil = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    asked = httpx.options(f"{demo.url}gradio_api/queue/join", headers=evil)
    assert asked.headers.get("access-control-allow-origin") != evil["Origin"]


def test_uploads_and_logins_are_counted() -> None:
    with serving(account=("ada", "x")) as served:
        login = {"username": "ada", "password": "no"}
        said = [httpx.post(f"{served.url}login", data=login).status_code for _ in range(21)]
        assert (set(said[:20]), said[20]) == ({400}, 429)
        right = {**login, "password": "x"}
        assert httpx.post(f"{served.url}login/", data=right).status_code == 429
        sent = [httpx.post(f"{served.url}gradio_api/upload").status_code for _ in range(61)]
        assert (429 in sent[:60], sent[60]) == (False, 429)


@pytest.mark.parametrize("side", [7100, 60_000])
def test_a_giant_image_is_refused_by_its_header(desk, tmp_path, side) -> None:
    head = struct.pack(">II5B", side, side, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"0")), (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        chunks += struct.pack(">I", len(data)) + kind + data + crc
    path = tmp_path / "giant.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(BadInput, match="50,000,000 px that are read at once"):
        desk.open(path)
    assert list(Path(desk._root.name).iterdir()) == []


def test_stopping_kills_the_ray_worker_and_a_new_one_takes_its_place(sample, ray_runtime) -> None:
    store = MemoryStore()
    handle = ImageHandle(pixels=store.put(sample.rgb), mpp=sample.mpp)
    request = CallRequest(
        call="$1", tool="count_nuclei", args={}, image=handle, inputs={}, backends=("flow",)
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ray_runtime.execute, request, store)
        assert not ray_runtime.stop(MemoryStore())
        while not ray_runtime.stop(store):
            time.sleep(0.01)
        stopped = running.result(timeout=60)
    assert stopped.error is not None
    assert (stopped.error.code, stopped.attempts) == ("worker_lost", 1)
    check = request.model_copy(update={"tool": "check_image", "backends": ("classical",)})
    assert ray_runtime.execute(check, store).error is None


@pytest.mark.parametrize("auth", ["ada", "ada:", ":file", "ada:/nowhere", "ada:EMPTY"])
def test_an_account_that_can_not_be_one_is_refused(tmp_path, auth) -> None:
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(BadInput, match="--auth"):
        account_of(auth.replace("EMPTY", str(tmp_path / "empty")))
