"""The demo in a real browser: what a person does, and what they see.

`HISTOPILOT_SCREENSHOTS=FOLDER` keeps pictures of it; `sample.png` is the README's.
"""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image as Pillow

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
WAIT_MS = 90_000
WIDE = {"viewport": {"width": 1400, "height": 1000}}
NARROW = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
BROKEN_OFF = ("AbortError", "Connection errored out")
"""What Gradio logs of the requests that a reload breaks off."""
GRADIOS_OWN = [["img[alt=Settings]"], [".hp-chat .title"], [".toast-header"]]
"""Parts of Gradio's that axe-core finds wrong: names twice or missing, a button in a button."""
OBJECTS = "document.querySelector('.hp-stage canvas').dataset.objects"
YELLOW = """() => {
  const canvas = document.querySelector(".hp-stage canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let i = 0; i < data.length; i += 4)
    found += data[i] > 240 && data[i + 1] > 210 && data[i + 1] < 240 && data[i + 2] < 80;
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser, demo):
    """Opens the page as a new user; the test fails where the page's console shows an error."""
    contexts, errors = [], []

    def opened(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(demo.url)
        page.get_by_label("Instruction").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [error for error in errors if not any(kind in error for kind in BROKEN_OFF)] == []


def upload(page, path: Path, mpp: str = "") -> None:
    if mpp:
        page.get_by_label("µm per pixel").fill(mpp)
    page.locator("input[type=file]").first.set_input_files(path)
    width, height = Pillow.open(path).size
    page.get_by_text(f"{width} × {height} px").wait_for()


def ask(page, words: str) -> None:
    page.get_by_label("Instruction").fill(words)
    page.keyboard.press("Enter")


def keep(page, name: str) -> None:
    folder = os.environ.get("HISTOPILOT_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(800)  # what grows has grown
        page.screenshot(path=Path(folder) / f"{name}.png")


def downloaded(page, link: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=link).click()
    return waiting.value.path().read_bytes()


def accessible(page) -> None:
    """What axe-core finds wrong with the page: nothing."""
    found = axe.Axe().run(page, context={"exclude": GRADIOS_OWN}).response["violations"]
    assert [(broken["id"], [n["html"] for n in broken["nodes"]]) for broken in found] == []


def test_upload_ask_look_ask_on_download_and_reload(visit, skin_file) -> None:
    page = visit(**WIDE)
    keep(page, "empty")
    accessible(page)
    upload(page, skin_file, "0.499")
    assert page.get_by_text("0.499 µm/px").count() == 1
    assert page.evaluate(YELLOW) == 0
    page.get_by_role("button", name="Count the nuclei").click()
    page.get_by_text("nuclei were found").wait_for()
    page.wait_for_function(f"{OBJECTS} > 50")
    page.wait_for_function(f"({YELLOW})() > 500")
    assert "count_nuclei, done" in page.locator(".hp-plan svg").get_attribute("aria-label")
    count = int(page.evaluate(OBJECTS))
    assert page.get_by_role("row", name=f"count {count}").is_visible()
    canvas = page.locator(".hp-stage canvas")
    canvas.press("n")
    assert "nucleus · Area µm²" in page.locator(".hp-tip").inner_text()
    canvas.press("+")
    keep(page, "answer")
    accessible(page)
    page.get_by_label("nucleus (").uncheck()
    page.wait_for_function(f"({YELLOW})() === 0")

    mask = Pillow.open(io.BytesIO(downloaded(page, "mask $1")))
    assert (mask.size, mask.getextrema()) == ((400, 400), (0, count))
    assert len(json.loads(downloaded(page, "QuPath"))["features"]) == count
    lines = downloaded(page, "objects").decode().splitlines()
    assert len(lines) == count + 1
    assert lines[0] == "call,class,object,Area µm^2,Detection probability,x0,y0,x1,y1"
    overlay = Pillow.open(io.BytesIO(downloaded(page, "overlay")))
    assert min(overlay.size) >= 400
    result = json.loads(downloaded(page, "result"))
    assert result["measurements"]["$1"]["count"] == count
    bundle = zipfile.ZipFile(io.BytesIO(downloaded(page, "trace")))
    assert "events.jsonl" in bundle.namelist()

    page.get_by_role("button", name="Now box them").click()
    page.get_by_text("boxes, one for each nucleus").wait_for()
    page.wait_for_function(f"{OBJECTS} == {2 * count}")
    page.reload()
    page.get_by_text("boxes, one for each nucleus").wait_for()
    page.wait_for_function(f"{OBJECTS} == {2 * count}")


def test_the_guard_asks_markup_stays_text_and_stop_works(visit, demo, skin_file, tmp_path) -> None:
    path = tmp_path / "grey.png"
    Pillow.linear_gradient("L").save(path)
    page = visit()
    evil = tmp_path / "<img src=x onerror=alert(1)>.png"
    evil.write_text("no image")
    page.locator("input[type=file]").first.set_input_files(evil)
    page.get_by_text("not an image that is read here").wait_for()
    keep(page, "no-image")
    assert page.locator("img[src=x]").count() == 0
    page.get_by_role("button", name="Close", exact=True).click()
    upload(page, path)
    ask(page, "count the nuclei <img src=x onerror=alert(1)> **now**")
    page.get_by_text("does not look like an H&E image").wait_for()
    assert page.get_by_text("<img src=x onerror=alert(1)> **now**").count() == 1
    assert page.locator("img[src=x]").count() == 0
    keep(page, "guard")
    page.get_by_role("button", name="No, stop").click()
    page.get_by_text("Nothing was measured").wait_for()
    ask(page, "count the nuclei")
    page.get_by_role("button", name="Yes, go on").click()
    page.get_by_text("Methods: nucleus").wait_for()

    upload(page, skin_file)
    demo.gate.clear()
    ask(page, "count the nuclei")
    page.get_by_text("check image").wait_for()
    page.reload()
    page.get_by_text("check image").wait_for()
    keep(page, "running")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopped. Nothing was answered.").wait_for()
    demo.gate.set()
    ask(page, "outline the tissue")
    page.get_by_text("The tissue covers").wait_for()


def test_two_users_at_once_see_their_own_and_one_of_them_a_narrow_dark_page(
    visit, demo, skin_file, tmp_path
) -> None:
    other = tmp_path / "other.png"
    Pillow.open(skin_file).crop((0, 0, 300, 300)).save(other)
    page, second, third = visit(**WIDE), visit(**NARROW), visit()
    ask(second, "count the nuclei")
    second.get_by_text("Open an image or a sample first.").wait_for()
    keep(second, "nothing-open")
    second.get_by_role("button", name="Close", exact=True).click()
    users = ((page, skin_file), (second, other), (third, other))
    demo.gate.clear()
    for one, image in users:
        upload(one, image)
        ask(one, "count the nuclei")
        one.get_by_text("Waiting: place 1" if one is third else "check image").wait_for()
        assert one.get_by_role("button", name="Stop", exact=True).is_visible()
    keep(third, "waiting")
    demo.gate.set()
    counts = []
    for one, _ in users:
        one.wait_for_function(f"{OBJECTS} > 10")
        counts.append(one.evaluate(OBJECTS))
        assert one.get_by_text(f"{counts[-1]} nuclei were found").count() == 1
    assert counts[0] != counts[1] == counts[2]
    assert second.evaluate("document.documentElement.scrollWidth") <= 390
    shade = second.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in shade[4:-1].split(",")) < 60, "not dark"
    second.locator(".hp-stage canvas").scroll_into_view_if_needed()
    keep(second, "narrow-dark")
    accessible(second)


def test_the_keyboard_is_enough(visit) -> None:
    page = visit(**WIDE)
    page.get_by_role("button", name="Sample: Skin").press("Enter")
    page.get_by_text("1200 × 1200 px, 0.499 µm/px").wait_for()
    page.get_by_label("Instruction").press("Shift+Tab")
    page.get_by_role("button", name="Count the nuclei inside the epidermis").press("Enter")
    page.wait_for_function(f"{OBJECTS} > 100")
    page.wait_for_function(f"({YELLOW})() > 5000")
    keep(page, "sample")
    canvas = page.locator(".hp-stage canvas")
    assert "objects" in canvas.get_attribute("aria-label")
    for key in ("+", "ArrowLeft", "n", "n", "p", "0"):
        canvas.press(key)
    tip = page.locator(".hp-tip")
    assert "µm²" in tip.inner_text()
    canvas.press("Enter")
    page.keyboard.press("Escape")
    page.get_by_text("This nucleus:").wait_for(state="hidden")
    page.get_by_role("checkbox", name="epidermis").press("Space")
    assert not page.get_by_role("checkbox", name="epidermis").is_checked()
    canvas.press("+")
    canvas.press("+")
    canvas.press("r")
    page.get_by_text("Now about the region of").wait_for()
    canvas.press("w")
    page.get_by_text("Now about the whole image again.").wait_for()


def drawn(page, button: str, *points: tuple[float, float]) -> None:
    """Draw a line; places are in parts of the image, which fills the height of the canvas."""
    page.get_by_role("button", name=button).click()
    canvas = page.locator(".hp-stage canvas")
    canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center' })")
    box = canvas.bounding_box()
    side = box["height"]
    left = box["x"] + (box["width"] - side) / 2
    places = [(left + x * side, box["y"] + y * side) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def corrections(page) -> list[dict]:
    lines = downloaded(page, "corrections").decode().splitlines()
    return [json.loads(line) for line in lines]


def test_a_region_is_drawn_and_nuclei_are_corrected(visit, skin_file) -> None:
    page = visit(**WIDE)
    upload(page, skin_file, "0.499")
    drawn(page, "Ask about a region", (0.25, 0.25), (0.75, 0.75))
    page.get_by_text("Now about the region of").wait_for()
    ask(page, "count the nuclei")
    page.wait_for_function(f"{OBJECTS} > 10")
    keep(page, "region")
    canvas = page.locator(".hp-stage canvas")
    canvas.press("n")
    canvas.press("Enter")
    page.get_by_text("This nucleus:").wait_for()
    accessible(page)
    page.get_by_label("Type").fill("lymphocyte")
    page.get_by_role("button", name="Is of this type").click()
    page.get_by_role("link", name="corrections").wait_for()
    (said,) = corrections(page)
    assert (said["verdict"], said["type"]) == ("right type", "lymphocyte")

    drawn(page, "Correct with a lasso", (0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7))
    held = page.get_by_text("nuclei:")
    held.wait_for()
    keep(page, "lasso")
    several = int(held.inner_text().split()[1])
    page.get_by_role("button", name="Are no nuclei").click()
    page.wait_for_function("document.querySelector('.hp-correct').hidden")
    page.get_by_text("Stop", exact=True).wait_for(state="hidden")
    for _ in range(100):
        lines = corrections(page)
        if len(lines) > 1:
            break
        page.wait_for_timeout(50)
    assert [line["verdict"] for line in lines[1:]] == ["wrong"] * several
    assert len({line["instance"] for line in lines[1:]}) == several > 5
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text("here:").or_(page.get_by_text("This nucleus:")).wait_for()
    page.get_by_role("button", name="Cancel").click()


def test_answers_of_the_conversation_are_replayed_and_compared(visit, skin_file) -> None:
    page = visit(**WIDE)
    upload(page, skin_file, "0.499")
    for words in ("outline the tissue", "count the nuclei"):
        ask(page, words)
        page.get_by_text("The tissue covers" if "tissue" in words else "were found").wait_for()
    page.get_by_role("tab", name="Replay").click()
    answers = page.get_by_label("Answer")
    page.wait_for_function("document.querySelector('[aria-label=Answer]').value.startsWith('2.')")
    answers.click()
    page.get_by_role("option", name="1. outline the tissue").click()
    page.get_by_label("Compare with", exact=True).click()
    page.get_by_role("option", name="2. count the nuclei").last.click()
    page.get_by_role("button", name="Replay", exact=True).click()
    page.get_by_text("Step 1 of").wait_for()
    assert page.get_by_role("heading", name="outline the tissue").count() == 1
    page.get_by_text("The two runs are different").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_text("Step 2 of").wait_for()
    assert page.locator(".hp-replay section:visible").count() == 1
    assert page.locator(".hp-replay img:visible").count() == 1
    keep(page, "replay")
    accessible(page)


def test_an_answer_about_an_earlier_image_is_not_drawn_on_a_later_one(
    visit, skin_file, tmp_path
) -> None:
    """The two files of objects have one name, and the first one comes last."""
    other = tmp_path / "other.png"
    Pillow.open(skin_file).crop((0, 0, 300, 300)).save(other)
    page, late = visit(), []

    def slow(route) -> None:
        if late:
            route.continue_()
        else:
            late.append(route)

    page.route("**/annotations.geojson", slow)
    upload(page, skin_file)
    ask(page, "outline the tissue")
    page.get_by_text("The tissue covers").wait_for()
    for _ in range(WAIT_MS // 50):  # the files come after the answer
        if late:
            break
        page.wait_for_timeout(50)
    upload(page, other)
    ask(page, "count the nuclei")
    page.wait_for_function(f"{OBJECTS} > 10")
    count = page.evaluate(OBJECTS)
    late[0].fulfill(json={"features": []})
    page.wait_for_timeout(1500)
    assert page.evaluate(OBJECTS) == count
