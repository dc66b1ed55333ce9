"""The page in a real browser: skipped where none is installed, unless CHROMIUM names one."""

import html
import json
import os
import re
import shutil
import subprocess

import pytest
from PIL import Image

from brcd_lightning.report.page import Section, page
from brcd_lightning.report.table import Number, Table

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TABLE = Table("t", "Scores <x>", ["name", "score"], [["b", Number(0.5)], ["a", Number(10.0)], ["c", None]])

# What a visitor would do, and what is then seen; the results end up in the document itself.
VISIT = """
<script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)), true);
addEventListener("load", () => {
  const column = place => [...document.querySelector("tbody").rows].map(row => row.cells[place].textContent);
  const buttons = document.querySelectorAll("th button"), orders = [];
  for (const button of [buttons[1], buttons[1], buttons[0]]) { button.click(); orders.push(column(0).join("")); }
  const seen = {
    errors, orders,
    images: [...document.images].map(image => image.complete && image.naturalWidth > 0),
    wider: document.documentElement.scrollWidth - innerWidth,
    back: getComputedStyle(document.body).backgroundColor,
    width: innerWidth,
  };
  document.title = "SEEN" + JSON.stringify(seen) + "SEEN";
});
</script>
"""


def make_page(tmp_path):
    Image.new("RGB", (1200, 300), "red").save(tmp_path / "f.png")
    wide = Table("w", "Wide", [f"column {place}" for place in range(30)], [["x" * 8] * 30])
    sections = [
        Section("One & two", [TABLE, wide], [("A caption", tmp_path / "f.png")]),
        Section("Not shown", remarks=["a very/long/path" * 20]),
    ]
    return page("Report", ["3 runs."], sections)


def test_it_is_one_file_with_everything_inside(tmp_path):
    text = make_page(tmp_path)
    assert "Scores &lt;x&gt;" in text
    assert 'src="data:image/png;base64,' in text
    assert not re.search(r'(src|href)="?(http|/|\.)', text)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium, or set CHROMIUM=PATH")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_and_sorts_it(tmp_path, width, dark):
    file = tmp_path / "report.html"
    # In a frame of this width: a headless window is never narrower than 500 pixels.
    inner = make_page(tmp_path).replace("<head>", f"<head>{VISIT}")
    hand_up = '<script>addEventListener("load", () => { document.title = frames[0].document.title; });</script>'
    frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(inner)}"></iframe>'
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{frame}{hand_up}")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    seen = json.loads(html.unescape(done.stdout.split("SEEN")[1]))
    assert seen["errors"] == []
    assert seen["images"] == [True]
    assert seen["width"] == width
    assert seen["wider"] <= 0  # wide tables scroll by themselves
    assert seen["orders"] == ["abc", "bac", "cba"]  # descending, ascending with what is missing last, by name
    assert seen["back"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
