# Licensed under a 3-clause BSD style license - see LICENSE.rst
import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable
from PIL import Image

from galml.core.exceptions import FileError, InputError, InputTypeError

pytest.importorskip("bokeh")
explore = pytest.importorskip("galml.morphology.explorer").explore

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not there")
GRZ = {"bands": ("g", "r", "z"), "unit": u.nJy}
COLUMNS = ("kind", "size", "seen")

#: Listens for whatever goes wrong, before the page does anything.
LISTEN = """<script>
window.trouble = [];
window.addEventListener("error", event => trouble.push(event.message));
window.addEventListener("unhandledrejection", event => trouble.push(`${event.reason}`));
const warn = console.error;
console.error = (...words) => { trouble.push(words.join(" ")); warn(...words); };
</script>"""
#: Uses the page as a person does, and writes what comes of it.
DRIVE = """<script>
const files = [];
const Plain = Blob;
window.Blob = function (parts, options) {
    files.push(parts.join(""));
    return new Plain(parts, options);
};
HTMLAnchorElement.prototype.click = function () { files.push(this.download); };
const until = async test => {
    while (!test()) await new Promise(done => setTimeout(done, 20));
};
// What a page does about a change, it does later.
const settled = () => new Promise(done => setTimeout(done, 500));
(async () => {
    await until(() => window.Bokeh && Bokeh.documents.length);
    const page = Bokeh.documents[0];
    await until(() => page.roots().length && page.is_idle);
    const models = [...page.roots()[0].references()];
    const of = type => models.filter(one => one.type === type);
    const sources = of("ColumnDataSource");
    const source = sources.find(one => "image" in one.data);
    const chosen = sources.find(one => !("image" in one.data));
    const [renderer] = of("GlyphRenderer");
    const [select] = of("Select");
    const [button] = of("Button");
    const texts = () => of("Div").map(one => one.text);
    const found = {disabled: button.disabled, before: texts()};
    const deep = (one, kind, found = []) => {
        found.push(...one.querySelectorAll(kind));
        for (const part of one.querySelectorAll("*")) {
            if (part.shadowRoot) deep(part.shadowRoot, kind, found);
        }
        return found;
    };
    const inked = () => deep(document, "canvas").reduce((sum, canvas) => {
        const pixels = canvas.getContext("2d")?.getImageData(
            0, 0, canvas.width, canvas.height).data ?? [];
        let count = 0;
        for (let i = 0; i < pixels.length; i += 4) {
            const [r, g, b] = pixels.slice(i, i + 3);
            count += pixels[i + 3] > 0 && Math.max(r, g, b) - Math.min(r, g, b) > 40;
        }
        return sum + count;
    }, 0);
    found.inked = inked();
    found.field = renderer.glyph.fill_color.field;
    select.value = "size";
    await settled();
    found.recolored = renderer.glyph.fill_color.field;
    found.legend = texts();
    source.selected.indices = [4, 1];
    await settled();
    found.rows = [...chosen.data.row];
    found.after = texts();
    found.enabled = !button.disabled;
    deep(document, "button").find(one => /CSV/.test(one.textContent)).click();
    await settled();
    [found.csv, found.name] = files;
    found.images = source.data.image.length;
    found.requests = performance.getEntriesByType("resource").map(one => one.name);
    found.trouble = window.trouble;
    return found;
})().catch(error => ({failure: `${error.stack}`})).then(found => {
    const text = document.createElement("pre");
    text.id = "found";
    text.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(found))));
    document.body.appendChild(text);
});
</script>"""


@pytest.fixture(scope="module")
def galaxies():
    rng = np.random.default_rng(0)
    y, x = np.indices((24, 24)) - 11.5
    light = np.exp(-np.hypot(x, y) / 3) + 0.2 * np.exp(-np.hypot(x, y - 7))
    images = light * np.array([0.4, 0.7, 1.0])[:, None, None]
    images = images + 0.005 * rng.normal(size=(12, 3, 24, 24))
    names = [f"J{i}" for i in range(12)]
    names[5] = 'a "b", c'
    table = QTable({"name": names})
    table["latent"] = rng.normal(size=(12, 4))
    table["latent"][0] = np.nan
    table["kind"] = ["<b>x</b>", "spiral", ""] * 4
    table["size"] = np.linspace(1, 3, 12).astype(np.float32) * u.arcsec
    table["seen"] = MaskedColumn(np.arange(12), mask=np.arange(12) == 5)
    table["pair"] = np.zeros((12, 2))
    return images, table


@pytest.fixture(scope="module")
def page(galaxies, tmp_path_factory):
    images, table = galaxies
    path = tmp_path_factory.mktemp("explorer") / "latents.html"
    assert explore(table, images, path, columns=COLUMNS, title="A & B", **GRZ) == path
    return path


def test_images_are_small_and_upright(page):
    uris = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page.read_text())
    pictures = []
    for uri in uris:
        image = Image.open(io.BytesIO(base64.b64decode(uri)))
        if image.size == (24, 24):
            pictures.append(np.asarray(image.convert("L"), dtype=float))
    assert len(pictures) == 11
    for picture in pictures:
        # The companion lies above the galaxy, in the first rows of a file.
        assert picture[3:7, 10:14].mean() > 1.15 * picture[17:21, 10:14].mean()


def test_nothing_is_loaded(page):
    text = page.read_text()
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=[\"']?http", text)


def test_files_are_not_replaced_unless_asked(galaxies, page):
    images, table = galaxies
    with pytest.raises(FileError, match="overwrite=True"):
        explore(table, images, page, **GRZ)
    before = page.read_bytes()
    explore(table, images, page, columns=COLUMNS, title="A & B", overwrite=True, **GRZ)
    assert len(page.read_bytes()) == len(before)


@pytest.mark.parametrize("kind", ["column", "array", "pandas"])
def test_colors_need_not_be_among_the_columns(galaxies, tmp_path, kind):
    images, table = galaxies
    color, title = "size", "size (arcsec)"
    if kind != "column":
        color, title = np.linspace(1, 3, 12), "color given"
    if kind == "pandas":
        color = pytest.importorskip("pandas").Series(color)
    path = tmp_path / "x.html"
    names = list(table.colnames)
    explore(table, images, path, columns="kind", color=color, **GRZ)
    text = path.read_text()
    assert f'"field":"column_1","title":"{title}"' in text
    assert '"fill_color":{"type":"field","field":"color_2"}' in text
    assert table.colnames == names


def test_what_cannot_be_shown(galaxies, tmp_path):
    images, table = galaxies
    path = tmp_path / "x.html"
    with pytest.raises(InputError, match=r"cutouts: got 11 images, expected 12"):
        explore(table, images[1:], path, **GRZ)
    with pytest.raises(InputError, match="columns: got 'nothing'"):
        explore(table, images, path, columns=["nothing"], **GRZ)
    with pytest.raises(InputError, match=r"columns: got pair of shape \(12, 2\)"):
        explore(table, images, path, columns=["pair"], **GRZ)
    for wrong in ("nothing", np.zeros(11), table["pair"]):
        with pytest.raises(InputError, match="^color: got") as raised:
            explore(table, images, path, color=wrong, **GRZ)
        assert len(str(raised.value)) < 80
    with pytest.raises(InputError, match="side: got 0"):
        explore(table, images, path, side=0, **GRZ)
    with pytest.raises(InputError, match="table: got the columns name, size"):
        explore(table["name", "size"], images, path, **GRZ)
    with pytest.raises(InputError, match="table: got 1 galaxies with"):
        explore(table[:2], images[:2], path, **GRZ)
    with pytest.raises(InputTypeError, match="table: got an object of type ndarray"):
        explore(np.zeros((12, 2)), images, path, **GRZ)
    assert not path.exists()


def test_images_that_cannot_be_read(galaxies, tmp_path):
    images, table = galaxies
    images = images.copy()
    images[3] = np.nan
    path = explore(table, images, tmp_path / "x.html", **GRZ)
    assert path.read_text().count("data:image/png") >= 11


def test_large_images_become_smaller(galaxies, tmp_path):
    images, table = galaxies
    path = explore(table, images, tmp_path / "x.html", side=12, **GRZ)
    uris = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", path.read_text())
    sizes = [Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris]
    assert sizes.count((12, 12)) == 11


@needs_browser
def test_page_in_a_browser(page, tmp_path):
    text = page.read_text().replace("<head>", f"<head>{LISTEN}", 1)
    driven = tmp_path / "driven.html"
    # The end of the page, not what scripts have in them.
    driven.write_text(f"{DRIVE}</body>".join(text.rsplit("</body>", 1)))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    result = subprocess.run(
        [*command, driven.as_uri()], capture_output=True, text=True, timeout=240
    )
    (coded,) = re.findall(r'<pre id="found">([^<]*)</pre>', result.stdout)
    found = json.loads(base64.b64decode(coded))
    assert "failure" not in found, found["failure"]
    assert found["trouble"] == []
    assert all(one.startswith(("data:", "blob:")) for one in found["requests"])
    assert found["images"] == 11
    # Points are drawn, in colors.
    assert found["inked"] > 100
    assert "A &amp; B" in found["before"][0]
    assert "11 galaxies, 1 without latents left out" in found["before"][0]
    assert any("&lt;b&gt;x&lt;/b&gt; (3)" in one for one in found["before"])
    assert (found["field"], found["recolored"]) == ("color_1", "color_2")
    assert any("size (arcsec)" in one for one in found["legend"])
    # Row 0 has no latents: the second point is row 2, and the fifth is row 5.
    assert found["rows"] == [2, 5]
    assert any("2 of 11 galaxies selected" in one for one in found["after"])
    assert found["disabled"] and found["enabled"]
    assert found["name"] == "galaxies.csv"
    header, *rows = csv.reader(io.StringIO(found["csv"], newline=""))
    assert header[:5] == ["row", "name", "kind", "size (arcsec)", "seen"]
    assert header[5:] == ["principal component 1", "principal component 2"]
    assert [row[:2] for row in rows] == [["2", "J2"], ["5", 'a "b", c']]
    assert [row[2] for row in rows] == ["", ""]
    sizes = np.linspace(1, 3, 12).astype(np.float32)[[2, 5]]
    assert [row[3] for row in rows] == [str(size) for size in sizes]
    assert [row[4] for row in rows] == ["2", ""]


def test_importing_needs_no_bokeh():
    code = (
        "import sys, galml.morphology.explorer\n"
        "assert not any(m.startswith(('bokeh', 'matplotlib')) for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
