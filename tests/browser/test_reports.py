"""Reports in a real browser, Debian's Chromium. A page must fit, whatever stands in it."""
import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from synthralos.reports import html
from synthralos.reports.document import (
    BAD,
    GOOD,
    IDLE,
    PLAIN,
    WAIT,
    Bar,
    Diagram,
    FactList,
    Report,
    StackedBars,
    Status,
    Steps,
    Table,
    Text,
    Timeline,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
NOW = 1_700_000_000.0
# Tells, in place of the page's text, how far it goes to the right, and of what.
_PROBE = """<script>
addEventListener("load", () => {
  const wide = document.documentElement.clientWidth;
  const over = [...document.querySelectorAll("main *")].filter(
    e => e.getBoundingClientRect().right > wide + 1 || e.scrollWidth > e.clientWidth + 1 &&
      getComputedStyle(e).display === "block" && !e.closest("svg"))
    .map(e => e.tagName + "." + (e.className.baseVal ?? e.className));
  document.body.innerHTML = "<pre>" + JSON.stringify(
    {wide, scroll: document.documentElement.scrollWidth, over: [...new Set(over)],
     back: getComputedStyle(document.body).backgroundColor}) + "</pre>";
});
</script></body>"""


def page(text="a text of some words that takes its room", rows=6):
    bars = [
        Bar("%s %d" % (text, n), kind, NOW + n, NOW + n + 2, text, n % 4)
        for n, kind in zip(range(rows), (GOOD, BAD, WAIT, IDLE, PLAIN, GOOD))
    ]
    report = Report(text, text, Status(BAD, "failed"), [(text, text)] * 5, NOW, text)
    report.add(
        "Everything", Text(text), FactList([(text, text)]), Steps([(text, Status(GOOD, text))] * 3),
        Table(["#", "Target", "Result", "Took", "It said"],
              [[n, text, Status(BAD, text), "2.5 s", text] for n in range(rows)], ("Took",)),
        Timeline(NOW, NOW + rows + 2, bars),
        StackedBars([(text, [(GOOD, n + 1), (BAD, n)], text) for n in range(rows)]),
        Diagram([text, "B", "C"], [(text, "B", text), ("B", text, text), (text, "C", text)],
                Status(BAD, "C")),
    )
    return html.render(report, 100)


def run(folder, *options):
    process = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--user-data-dir=%s" % (folder / "profile"), *options,
         (folder / "page.html").as_uri()],
        capture_output=True, timeout=120, check=False,
    )
    assert process.returncode == 0, process.stderr.decode(errors="replace")[-2000:]
    return process.stdout.decode("utf-8", "replace")


def looked_at(folder, content, width):
    """What the page says of its own layout. Its policy has to go for that: it forbids scripts."""
    content = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", content)
    # Headless Chromium has no window below 500 pixels: a frame has any width.
    (folder / "inner.html").write_text(content.replace("</body>", _PROBE), encoding="utf-8")
    (folder / "page.html").write_text(
        '<iframe src="inner.html" style="width:%dpx;height:3000px;border:0"></iframe><script>'
        'addEventListener("load",()=>setTimeout(()=>{document.title='
        'document.querySelector("iframe").contentDocument.body.innerText;'
        'document.body.innerText=document.title},50))</script>' % width, encoding="utf-8")
    dom = run(folder, "--allow-file-access-from-files", "--window-size=1600,1200",
              "--virtual-time-budget=3000", "--dump-dom")
    return json.loads(unescape(re.search(r"<title>(\{.*?\})</title>", dom, re.S).group(1)))


@pytest.mark.parametrize("width", (320, 375, 768, 1280))
@pytest.mark.parametrize("text", ("a text of some words that takes its room", "w" * 300, "ok"))
def test_nothing_stands_out_at_the_side(tmp_path, width, text):
    measurements = looked_at(tmp_path, page(text), width)
    assert measurements["wide"] == width
    assert measurements["over"] == [] and measurements["scroll"] <= width


def test_its_policy_lets_no_script_run_and_nothing_load(tmp_path):
    hostile = page().replace(
        "<main>", '<main><script>document.title="ran"</script>'
        '<img src="data:," onerror="document.title=\'ran\'">')
    (tmp_path / "page.html").write_text(hostile, encoding="utf-8")
    assert "<title>ran" not in run(tmp_path, "--virtual-time-budget=1000", "--dump-dom")


@pytest.mark.parametrize("width", (500, 1280))
def test_a_picture_of_it_is_not_blank(tmp_path, width):
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    run(tmp_path, "--window-size=%d,1400" % width, "--screenshot=%s" % (tmp_path / "shot.png"))
    # A blank picture of this size has some kilobytes.
    assert (tmp_path / "shot.png").stat().st_size > 40_000


def test_it_prints(tmp_path):
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    run(tmp_path, "--no-pdf-header-footer", "--print-to-pdf=%s" % (tmp_path / "page.pdf"))
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and b"%%EOF" in pdf[-1024:]
    pages = len(re.findall(rb"/Type\s*/Page[^s]", pdf))
    assert 1 <= pages <= 4
