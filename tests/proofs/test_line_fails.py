"""Proofs that the line can fail: each plants one fault in a tiny course and wants to be told of it.

These run kernels and Sphinx, so they take minutes: ``python -m pytest tests/proofs``.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from toy import code, notebook, project

from book.press import chapters
from book.press.compile import whole_site

GOOD = notebook(code("print(2 + 2)", name="sum"), title="A good chapter")


def book(root, *, python="from book.press import actions", action="book"):
    """Run an action on a course in another process; its exit code and everything it said."""
    script = f"from pathlib import Path; {python}; ok = actions.{action}(Path({str(root)!r}))"
    run = subprocess.run(
        [sys.executable, "-c", f"{script}; raise SystemExit(0 if ok else 1)"],
        cwd=chapters.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A good course, built once."""
    root = tmp_path_factory.mktemp("good")
    project(root, c01_good=GOOD)
    code_, said = book(root)
    assert code_ == 0, said
    return root


@pytest.fixture
def course(built, tmp_path):
    """A copy of it to break; its chapter is up to date."""
    shutil.copytree(built, tmp_path / "course", symlinks=True)
    return tmp_path / "course"


def fails(root, *words):
    code_, said = book(root)
    assert code_ == 1, said
    for word in words:
        assert word in said, f"{word!r} is not in:\n{said}"


def test_good_course_passes_and_needs_no_second_run(built):
    code_, said = book(built)
    assert code_ == 0
    assert "01_good: up to date" in said
    assert "pages: up to date" in said


def test_prose_is_not_executed_again(course):
    changed = chapters.read(course / "notebooks" / "01_good.ipynb")
    changed.cells[0].source = "# A better title"
    nbformat.write(changed, course / "notebooks" / "01_good.ipynb")
    code_, said = book(course)
    assert code_ == 0, said
    assert "01_good: up to date" in said
    assert "notebooks/01_good.ipynb changed" in said
    assert "A better title" in (course / "_build/html/notebooks/01_good.html").read_text()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("See [this](nowhere.md).", "nowhere.md"),
        ("See [](#no-such-place).", "no-such-place"),
        ("See {cite:p}`unknown2099`.", "unknown2099"),
        ("See {numref}`no-figure`.", "no-figure"),
        ("See {term}`no-such-term`.", "no-such-term"),
        ("![](images/a.png)", "alt"),
        ("A slip: $\\frac{1$", "frac"),
    ],
    ids=["page", "anchor", "citation", "figure", "term", "alt-text", "mathematics"],
)
def test_faults_in_a_page_fail_and_name_the_page(course, fault, says):
    (course / "book" / "images").mkdir()
    shutil.copy(next(course.glob("_build/html/_static/*.png")), course / "book/images/a.png")
    with (course / "book" / "index.md").open("a") as page:
        page.write(f"\n{fault}\n")
    fails(course, "book/index.md", says)
    # The same fault again: a second build must not pass because nothing changed since the first.
    fails(course, "book/index.md", says)


def test_output_picture_without_alt_text_fails(course):
    source = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    project(course, c01_good=notebook(code(source, name="bare-plot")))
    fails(course, "01_good", "alt")


def test_page_missing_from_contents_and_from_site_fails(course):
    (course / "_build/html/book/bibliography.html").unlink()
    faults = whole_site(course / "_build/html", course / "_build/source")
    assert "book/bibliography.html: in _toc.yml, but not in the site" in faults
    with (course / "_toc.yml").open("a") as contents:
        contents.write("  - file: book/forgotten\n")
    fails(course, "book/forgotten")


def test_a_raising_chapter_is_shown_and_the_others_finish(tmp_path):
    bad = notebook(code("print('fine')", name="fine"), code("1 / 0  # here", name="boom"))
    project(tmp_path, c01_bad=bad, c02_good=GOOD)
    fails(tmp_path, "notebooks/01_bad.ipynb failed", "(boom)", "1 / 0  # here", "ZeroDivisionError",
          "02_good: done")  # fmt: skip
    assert (tmp_path / "_build/executed/02_good.ipynb").exists()
    assert not (tmp_path / "_build/executed/01_bad.ipynb").exists()
    assert not (tmp_path / "_build/html").exists()


def test_a_dying_kernel_and_a_hanging_cell_fail(tmp_path):
    dying = notebook(code("import os\nos._exit(3)", name="dies"))
    hanging = notebook(code("import time\ntime.sleep(60)", name="hangs"))
    project(tmp_path, c01_dying=dying, c02_hanging=hanging)
    patch = "from book.press import actions, execute; execute.CELL_SECONDS = {'quick': 3}"
    code_, said = book(tmp_path, python=patch)
    assert code_ == 1
    assert "01_dying: FAILED" in said
    assert "02_hanging: FAILED" in said


def site(root):
    """The pages of a site, by name; build times are not in them."""
    html = root / "_build" / "html"
    return {path.relative_to(html): path.read_text() for path in html.rglob("*.html")}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("seconds", [1, 4, 8])
def test_killed_at_any_moment_the_next_run_gives_the_same_book(built, tmp_path, seconds):
    slow = notebook(code("import time\ntime.sleep(2)\nprint(1)", name="slow"))
    project(tmp_path / "killed", c01_good=GOOD, c02_slow=slow)
    project(tmp_path / "calm", c01_good=GOOD, c02_slow=slow)
    root = tmp_path / "killed"
    script = (
        f"from pathlib import Path; from book.press.actions import book; book(Path({str(root)!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=chapters.ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert book(root)[0] == 0
    assert book(tmp_path / "calm")[0] == 0
    assert site(root) == site(tmp_path / "calm")
