"""The Sphinx extension, alone and in small books that are built with the course's own _config.yml.

Oracles: MathML written by hand from the MathML Core specification; the HTML as html.parser sees it.
"""

import base64
import copy
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from jupyter_book.config import get_final_config
from matplotlib.image import imsave
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from book.press import chapters
from book.press.sphinx_ext.mathml import to_mathml

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
CONFIG = yaml.safe_load((chapters.ROOT / "_config.yml").read_text("utf-8"))


def shape(latex: str, block: bool = False) -> str:
    """The converted formula in a short notation: tag(children) or tag:text."""

    def short(element):
        tag = element.tag.removeprefix(NAMESPACE)
        inner = " ".join(short(child) for child in element)
        return f"{tag}({inner})" if inner else f"{tag}:{element.text or ''}"

    root = ElementTree.fromstring(to_mathml(latex, block=block))
    assert root.tag == f"{NAMESPACE}math"
    assert root.get("display") == ("block" if block else "inline")
    return short(root)


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\frac{a}{2}", "math(mrow(mfrac(mrow(mi:a) mrow(mn:2))))"),
        (r"x_i^2", "math(mrow(msubsup(mi:x mi:i mn:2)))"),
        (r"\left\lfloor n \right\rfloor", "math(mrow(mrow(mo:⌊ mi:n mo:⌋)))"),
        (r"a < b", "math(mrow(mi:a mo:< mi:b))"),
        (r"\text{a < b & c}", "math(mrow(mtext:a\xa0<\xa0b\xa0&\xa0c))"),
        (r"C_{\mathrm{out}}", "math(mrow(msub(mi:C mrow(mrow(mi:out)))))"),
        (r"\mathrm{x_i}", "math(mrow(mrow(msub(mi:x mi:i))))"),
        (r"8{,}402{,}618", "math(mrow(mn:8,402,618))"),
        (r"(8, 402)", "math(mrow(mo:( mn:8 mo:, mn:402 mo:)))"),
        (r"\{0\}", "math(mrow(mo:{ mn:0 mo:}))"),
    ],
)
def test_mathml(latex, expected):
    assert shape(latex) == expected


@pytest.mark.parametrize("environment", ["aligned", "align", "align*", "split", None])
def test_lines_are_aligned(environment):
    lines = r"a &= b \\ &= c"
    latex = rf"\begin{{{environment}}}{lines}\end{{{environment}}}" if environment else lines
    converted = shape(latex, block=True)
    assert converted.count("mtr(") == 2
    assert converted.count("mtd(") + converted.count("mtd:") == 4
    assert "mtext" not in converted, "the converter numbered the lines; that is Sphinx's work"


def test_source_is_kept_for_whoever_cannot_read_mathml():
    latex = r'x < "y"'
    assert ElementTree.fromstring(to_mathml(latex)).get("alttext") == latex


@pytest.mark.parametrize(
    ("latex", "why"),
    [
        (r"\foo x", r"\\foo"),
        (r"\frac{a}{b", "braces"),
        (r"a}", "braces"),
        (r"a & b", "&"),
        (r"a \\ b", "outside"),
        (r"a_b_c", "DoubleSubscripts"),
        (r"\left( a", "ExtraLeftOrMissingRight"),
        (r"\begin{tikzpicture}a\end{tikzpicture}", "tikzpicture"),
        (r"\begin{matrix} a", "MissingEnd"),
        (r"\text{size $n$}", "inside"),
        (r"\frac", "Error"),
    ],
)
def test_mathml_refuses(latex, why):
    with pytest.raises(ValueError, match=why):
        to_mathml(latex)


def notebook(*cells) -> str:
    kernel = {"name": "python3", "display_name": "Python 3"}
    language = {"language_info": {"name": "python"}, "kernelspec": kernel}
    return nbformat.writes(new_notebook(cells=list(cells), metadata=language))


def cell(png: bytes, mystnb: dict) -> nbformat.NotebookNode:
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": "<Figure>"}
    output = new_output("display_data", data)
    metadata = {"mystnb": mystnb} if mystnb else {}
    return new_code_cell("draw()\nplt.show()", outputs=[output], metadata=metadata)


def build(root: Path, files: dict[str, str], config: dict = CONFIG) -> tuple[Path, list[str]]:
    """Build a small book; where its pages are, and what it warned about."""
    pages = [name for name in files if name.endswith((".md", ".ipynb")) and name != "index.md"]
    toc = {"format": "jb-book", "root": "index", "parts": [{"numbered": 1, "chapters": []}]}
    toc["parts"][0]["chapters"] = [
        {"file": Path(page).with_suffix("").as_posix()} for page in pages
    ]
    files = {"_toc.yml": yaml.safe_dump(toc), "book/references.bib": ""} | files
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    overrides, _ = get_final_config(
        user_yaml=copy.deepcopy(config), cli_config={"latex_individualpages": False}, sourcedir=root
    )
    overrides["nitpicky"] = True
    with open(root / "warnings", "w+", encoding="utf-8") as warnings, open(os.devnull, "w") as null:
        with patch_docutils(root), docutils_namespace():
            app = Sphinx(
                root, None, root / "html", root / "trees", "html", overrides, null, warnings
            )
            app.setup_extension("sphinx_multitoc_numbering")
            app.build()
        warnings.seek(0)
        said = re.sub(r"\x1b\[[\d;]*m", "", warnings.read()).replace(f"{root}{os.sep}", "")
    return root / "html", [line for line in said.splitlines() if "WARNING" in line]


@pytest.fixture(scope="module")
def png(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("png") / "dot.png"
    imsave(path, [[[0.0, 0.5, 1.0]]])
    return path.read_bytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory, png):
    """A book without faults, of three pages: its folder and its warnings."""
    figure = {"image": {"alt": "One dot."}, "figure": {"name": "fig-dot", "caption": "A dot."}}
    files = {
        "index.md": "# Home\n\nNo terms here.\n",
        "deep/math.md": (
            "# Math\n\nThe {term}`stride` $s$; see {eq}`eq-size` and {numref}`fig-dot`.\n\n"
            "$$\no = n / s\n$$ (eq-size)\n"
        ),
        "picture.ipynb": notebook(new_markdown_cell("# Picture"), cell(png, figure)),
        "words.md": (
            "# Words\n\n```{glossary}\nstride\nstep\n  How far the {term}`kernel` moves, $s$.\n\n"
            "kernel\n  Weights.\n```\n"
        ),
    }
    return build(tmp_path_factory.mktemp("good"), files)


def soup(html: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((html / page).read_text("utf-8"), "html.parser")


def test_good_book_has_no_warning(good):
    assert good[1] == []


def test_equation_has_a_number_and_references_find_it(good):
    page = soup(good[0], "deep/math.html")
    equation = page.find(id="equation-eq-size")
    assert equation.find("math")["display"] == "block"
    assert equation.find(class_="eqno").text.startswith("(1.1)")
    assert page.find("a", string="(1.1)")["href"] == "#equation-eq-size"
    assert page.find("a", string="Figure 2.1")["href"] == "../picture.html#fig-dot"


def test_alt_text_reaches_the_page(good):
    assert soup(good[0], "picture.html").find("figure").find("img")["alt"] == "One dot."


def test_definitions_travel_with_the_pages_that_use_them(good):
    definitions = soup(good[0], "deep/math.html").find(id="course-definitions").find_all("div")
    assert [item["data-term"] for item in definitions if item.has_attr("data-term")] == [
        "term-stride"
    ]
    assert "How far the" in str(definitions[0])
    assert definitions[0].find("math"), "formulas in definitions are rendered, too"
    assert not definitions[0].find("a"), "a link would be relative to the glossary"
    assert soup(good[0], "index.html").find(id="course-definitions") is None


def test_nothing_is_loaded_from_elsewhere_and_all_of_ours_is_there(good):
    html = good[0]
    for page in (path for path in html.rglob("*.html") if "_static" not in path.parts):
        text = page.read_text("utf-8")
        assert not re.search("MathJax|THEBE", text), "scripts that the book does not use"
        for tag in soup(html, page.relative_to(html)).find_all(["script", "link", "img"]):
            loads = tag.get("src") or (tag.get("href") if tag.name == "link" else "") or ""
            assert not re.match("(https?:)?//", loads), f"{page.name} loads {loads}"
            assert (page.parent / re.split("[?#]", loads)[0]).exists(), f"{page.name} loads {loads}"
    assert (html / "_static" / "course-math.woff2").exists()
    assert soup(html, "index.html").find("link", rel="icon")["href"] == "_static/favicon.svg"


def test_without_an_address_there_is_no_button_that_needs_one(good):
    page = (good[0] / "picture.html").read_text("utf-8")
    assert "colab" not in page
    assert "github" not in page.lower()


def test_with_an_address_colab_and_edits_have_their_own_branches(tmp_path, png):
    config = copy.deepcopy(CONFIG)
    config["repository"] = {"url": "https://github.com/someone/course", "branch": "colab"}
    config["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    config["html"]["use_edit_page_button"] = True
    config["sphinx"]["config"]["course_edit_branch"] = "main"
    chapter = notebook(new_markdown_cell("# Notebook"))
    html, said = build(tmp_path, {"index.md": "# Home\n", "notebooks/a.ipynb": chapter}, config)
    assert said == []
    links = {link.get("href") for link in soup(html, "notebooks/a.html").find_all("a")}
    colab = "https://colab.research.google.com/github/someone/course/blob/colab/notebooks/a.ipynb"
    assert {colab, "https://github.com/someone/course/edit/main/notebooks/a.ipynb"} <= links


@pytest.fixture(scope="module")
def warnings(tmp_path_factory, png):
    """What a book full of faults is told."""
    html = new_output("execute_result", {"text/html": '<img src="a.png" alt="">'})
    figure = {"figure": {"name": "fig-a", "caption": "Caption."}, "image": {"alt": " "}}
    faults = notebook(
        new_markdown_cell("# Notebook\n\n$\\bar$"),
        cell(png, {}),
        cell(png, figure),
        new_code_cell("HTML(page)", outputs=[html], execution_count=1),
        new_code_cell("warn()", outputs=[new_output("stream", name="stderr", text="Oh!")]),
    )
    files = {
        "index.md": "# Home\n\n{term}`nowhere`, {eq}`nothing`, {cite:p}`nobody`, [no](no.md)\n",
        "math.md": "# Math\n\nFine $a$.\n\nBroken $\\foo$.\n\n$$\n\\frac{a}{b\n$$\n",
        "images.md": (
            "# Images\n\n![](index.md)\n\n```{figure} math.md\nCaption.\n```\n\n"
            '<img src="raw.png">\n\n<img src="fine.png" alt="fine">\n'
        ),
        "faults.ipynb": faults,
    }
    return build(tmp_path_factory.mktemp("faults"), files)[1]


@pytest.mark.parametrize(
    "words",
    [
        ("math.md:5", r"\foo"),
        ("math.md:7", "braces", r"\frac{a}{b"),
        ("faults.ipynb:1", "NoAvailableTokens", r"\bar"),
        ("images.md:3", "image without alt text: index.md"),
        ("images.md:5", "image without alt text: math.md"),
        ("images.md:9", 'image without alt text: <img src="raw.png">'),
        ("faults.ipynb:2", "cell 2 ", "mystnb.image.alt", "begins: draw()"),
        ("faults.ipynb:3", "cell 3 ", "mystnb.image.alt"),
        ("faults.ipynb:4", "cell 4 ", "begins: HTML(page)"),
        ("faults.ipynb:5", "stderr"),
        ("index.md:3", "nowhere"),
        ("index.md:3", "nothing"),
        ("index.md:3", "nobody"),
        ("index.md:3", "no.md"),
    ],
)
def test_fault_is_named_with_its_place(warnings, words):
    assert any(all(word in line for word in words) for line in warnings), "\n".join(warnings)


def test_what_is_right_is_not_reported(warnings):
    assert len(warnings) == 14, "\n".join(warnings)
