"""How soon the demo's page shows something, in a real browser on the loopback.

`python -m tests.agent.demo_paint [--visits 5] [--planner local]` serves the demo in a process of
its own, with the default backends, and prints the median of the visits; a first one, which loads
the models, is not counted. Each visit is of a new browser profile: nothing is cached.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.agent.demo_load import served_apart

QUESTION = "count the nuclei inside the epidermis"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
TISSUE = """() => {
  const canvas = document.querySelector(".hp-stage canvas");
  const at = [canvas.width / 2, canvas.height / 2, 1, 1];
  return canvas.getContext("2d").getImageData(...at).data[3] === 255;
}"""
SEEN = {
    "first contentful paint": "from the address to the first text or picture",
    "meaningful paint": "from the address to the whole page, ready to be used",
    "image": "from the click on the sample to its pixels",
    "first step": "from Enter to the first step in the conversation",
    "plan": "from Enter to the plan's graph",
    "first tool": "from Enter to the first tool that ended",
    "answer": "from Enter to the answer",
}


def visit(browser: Browser, url: str) -> dict[str, float]:
    """Seconds to each of `SEEN` for a new user."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(180_000)
    began = time.perf_counter()

    def since() -> float:
        return time.perf_counter() - began

    page.goto(url, wait_until="commit")
    page.get_by_label("Instruction").wait_for()
    page.get_by_role("button", name="Zoom in").wait_for()
    seen = {"meaningful paint": since()}
    page.wait_for_function(PAINTED)
    seen["first contentful paint"] = page.evaluate(PAINTED) / 1000
    began = time.perf_counter()
    page.get_by_role("button", name="Skin, H&E").click()
    page.wait_for_function(TISSUE)
    seen["image"] = since()
    page.get_by_label("Instruction").fill(QUESTION)
    began = time.perf_counter()
    page.keyboard.press("Enter")
    page.get_by_text("Plan", exact=True).wait_for()
    seen["first step"] = since()
    page.locator(".hp-plan svg").wait_for()
    seen["plan"] = since()
    page.locator(".hp-plan .done").first.wait_for()
    seen["first tool"] = since()
    page.get_by_text("nuclei were found").wait_for()
    seen["answer"] = since()
    context.close()
    return seen


def table(visits: list[dict[str, float]]) -> str:
    """Medians as a table in Markdown."""
    rows = ["| what | seconds, median | longest | measured |", "| --- | --- | --- | --- |"]
    for what, how in SEEN.items():
        times = [one[what] for one in visits]
        rows.append(f"| {what} | {statistics.median(times):.2f} | {max(times):.2f} | {how} |")
    return "\n".join(rows)


def main() -> None:
    """Run it and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--visits", type=int, default=5)
    options.add_argument("--planner", default="local")
    chosen = options.parse_args()
    path: Any = shutil.which("chromium") or shutil.which("google-chrome")
    with served_apart(chosen.planner) as (url, _), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        visits = [visit(browser, url) for _ in range(chosen.visits + 1)]
        browser.close()
    print(f"{chosen.visits} visits, planner {chosen.planner}\n\n{table(visits[1:])}")


if __name__ == "__main__":
    main()
