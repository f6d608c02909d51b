"""The press decides rightly what to run, and lays out the right tree."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml
from toy import code, notebook, project, ran, text

from book.press import chapters, execute
from book.press.compile import pages_of_contents, whole_site
from book.press.stage import address, configuration, page_notebook, stage

CELL = code("from resnetlib import first\nprint(1)", text("1\n"), name="one")


@pytest.fixture
def course(tmp_path):
    """Two chapters; 01_toy imports first, which imports second; nobody imports third."""
    (tmp_path / "resnetlib" / "_data").mkdir(parents=True)
    for name, source in {
        "__init__": "",
        "first": "def f():\n    from .second import g\n",
        "second": "STYLE = 'course.mplstyle'\n",
        "third": "",
        "data": "'fashion_mnist'\n",
    }.items():
        (tmp_path / "resnetlib" / f"{name}.py").write_text(source)
    (tmp_path / "resnetlib" / "course.mplstyle").write_text("")
    (tmp_path / "resnetlib" / "_data" / "fashion_mnist_train.png").write_text("")
    other = code("from resnetlib import data\ndata.fashion_mnist()", name="two")
    toy, pictures = project(tmp_path, c01_toy=notebook(CELL), c02_pictures=notebook(other))
    ran(toy, CELL)
    ran(pictures, other)
    return tmp_path, toy, pictures


def test_up_to_date(course):
    _, toy, pictures = course
    assert chapters.reasons(toy) == chapters.reasons(pictures) == []


@pytest.mark.parametrize(
    ("file", "toy_runs", "pictures_run"),
    [
        ("resnetlib/first.py", True, False),
        ("resnetlib/second.py", True, False),
        ("resnetlib/third.py", False, False),
        ("resnetlib/course.mplstyle", True, False),
        ("resnetlib/data.py", False, True),
        ("resnetlib/_data/fashion_mnist_train.png", False, True),
        ("requirements.lock", True, True),
    ],
)
def test_a_changed_file_reruns_the_chapters_that_use_it(course, file, toy_runs, pictures_run):
    root, toy, pictures = course
    with (root / file).open("a") as changed:
        changed.write("\n# changed\n")
    assert chapters.reasons(toy) == ([f"{file} changed"] if toy_runs else [])
    assert chapters.reasons(pictures) == ([f"{file} changed"] if pictures_run else [])


def test_prose_is_no_reason_code_and_parameters_are(course):
    root, toy, _ = course
    changed = chapters.read(toy.source)
    changed.cells[0].source = "# Another title"
    chapters.nbformat.write(changed, toy.source)
    assert chapters.reasons(toy) == []
    (root / "book" / "profiles.yml").write_text("quick:\nfull:\n  01_toy: {EPOCHS: 3}\n")
    assert chapters.reasons(toy) == []
    assert chapters.reasons(toy, "full") == ["its parameters changed"]
    changed.cells[1].source += "\nimport resnetlib.third"
    chapters.nbformat.write(changed, toy.source)
    assert chapters.reasons(toy) == ["its code changed", "resnetlib/third.py is new"]


def test_a_cell_that_is_no_python_is_left_for_the_run(course):
    root, toy, _ = course
    broken = notebook(CELL, code("%matplotlib inline", name="m"), code("1 +", name="slip"))
    project(root, c01_toy=broken)
    assert chapters.reasons(toy) == ["its code changed"]


@pytest.mark.parametrize(
    ("answers", "runs"),
    [
        ([f"RuntimeError: {execute.PORT_TAKEN}", ""], 2),
        ([f"RuntimeError: {execute.PORT_TAKEN}"] * 2, 2),
        (["DeadKernelError: Kernel died"], 1),
    ],
    ids=["taken once", "taken twice", "killed in a cell"],
)
def test_only_a_kernel_that_did_not_start_is_started_again(course, monkeypatch, answers, runs):
    _, toy, _ = course
    toy.executed.unlink()
    said = iter(answers)
    started = []

    def run_child(command, *_):
        started.append(command)
        if answer := next(said):
            return 1, answer, "before its first cell ended"
        shutil.copy(*command[3:5])
        return 0, "", "after cell 2/2"

    monkeypatch.setattr(execute, "run_child", run_child)
    if answers[-1]:
        with pytest.raises(execute.ChapterFailed, match=answers[-1]):
            execute.run_chapter(toy, "quick", 1, print)
    else:
        execute.run_chapter(toy, "quick", 1, print)
    assert len(started) == runs
    assert toy.executed.exists() == (not answers[-1])


def test_unknown_names_list_the_choices(course):
    root, toy, _ = course
    with pytest.raises(SystemExit, match="The chapters are: 01_toy, 02_pictures"):
        chapters.find(root, "99")
    with pytest.raises(SystemExit, match="No profile 'huge'"):
        chapters.recipe(toy, "huge")


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/some-one/a.course.git", "https://github.com/some-one/a.course"),
        ("https://token@github.com/some/course", "https://github.com/some/course"),
        ("git@github.com:some/course.git", "https://github.com/some/course"),
        ("ssh://git@forge.example/some/course.git", "https://forge.example/some/course"),
        ("/srv/git/course.git", None),
        ("http://127.0.0.1:8000/some/course", None),
        (None, None),
    ],
)
def test_address_comes_from_the_remote(tmp_path, monkeypatch, remote, expected):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    if remote:
        subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    assert address(tmp_path) == expected


def test_address_comes_from_ci_first(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "fork/course")
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    assert address(tmp_path) == "https://github.com/fork/course"


def test_colab_and_edit_buttons_only_with_an_address():
    plain = yaml.safe_load(configuration(chapters.ROOT, None))
    assert not plain.get("launch_buttons", {}).get("colab_url")
    assert not plain["html"].get("use_edit_page_button")
    known = yaml.safe_load(configuration(chapters.ROOT, "https://github.com/Fork/course"))
    assert known["launch_buttons"]["colab_url"] == "https://colab.research.google.com"
    assert known["html"]["use_edit_page_button"] is True
    assert known["html"]["baseurl"] == "https://fork.github.io/course/"
    elsewhere = yaml.safe_load(configuration(chapters.ROOT, "https://forge.example/a/b"))
    assert not elsewhere.get("launch_buttons", {}).get("colab_url")


def test_staged_notebook_has_the_current_prose_and_the_fresh_outputs(course):
    _, toy, _ = course
    ran(toy, code(CELL.source, text("2\n"), name="one"))
    changed = chapters.read(toy.source)
    changed.cells[0].source = "# Another title"
    chapters.nbformat.write(changed, toy.source)
    staged = page_notebook(toy, preview=False)
    assert staged.cells[0].source == "# Another title"
    assert staged.cells[1].outputs[0].text == "2\n"
    assert page_notebook(toy, preview=True).cells[1].outputs[0].text == "1\n"


def test_stage_touches_only_what_changed_and_removes_what_went(course):
    root, toy, pictures = course
    source = stage(root, [toy, pictures])
    times = {path: os.stat(path).st_mtime_ns for path in source.rglob("*.*")}
    (root / "book" / "index.md").write_text("# Changed\n")
    stage(root, [toy])
    for path, before in times.items():
        if path.name == "02_pictures.ipynb":
            assert not path.exists()
        elif path.is_file():
            assert (os.stat(path).st_mtime_ns != before) == (path.name == "index.md"), path


def test_whole_site_finds_each_fault(tmp_path):
    source, html = tmp_path / "source", tmp_path / "html"
    source.mkdir()
    html.mkdir()
    (source / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- chapters:\n  - file: gone\n    sections:\n"
        "    - file: here\n"
    )
    assert pages_of_contents(source) == ["index", "gone", "here"]
    (html / "index.html").write_text(
        '<a href="nowhere.html">x</a><a href="here.html#there">x</a><a href="here.html#no">x</a>'
        '<img src="lost.png"><script src="https://cdn.example/x.js"></script><a href="#top">x</a>'
        '<link rel="stylesheet" href="//fonts.example/x.css"><a href="https://paper.example">x</a>'
    )
    (html / "here.html").write_text('<p id="there">')
    faults = "\n".join(whole_site(html, source))
    for fault in ("gone.html: in _toc.yml", "nowhere.html, which", "no, but here.html has no such",
                  "lost.png, which", "https://cdn.example/x.js from", "//fonts.example/x.css from",
                  "#top, but"):  # fmt: skip
        assert fault in faults
    assert len(faults.splitlines()) == 7


def test_every_action_is_in_the_makefile():
    from book.press.__main__ import ACTIONS

    makefile = (chapters.ROOT / "Makefile").read_text()
    listed = next(line for line in makefile.splitlines() if line.startswith("ACTIONS :="))
    assert listed.split(":=")[1].split() == [name for name, _ in ACTIONS]


def test_unknown_action_lists_the_actions():
    run = subprocess.run(
        [sys.executable, "-m", "book.press", "publsh"],
        cwd=chapters.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "no action 'publsh'" in run.stdout
    assert "preview" in run.stdout


def test_profiles_name_real_chapters_and_their_parameters():
    profiles = yaml.safe_load((chapters.ROOT / "book" / "profiles.yml").read_text("utf-8"))
    assert not profiles["quick"], "the quick size is the notebooks' own"
    known = {chapter.name: chapter for chapter in chapters.find()}
    for name, values in profiles["full"].items():
        (cell,) = (
            cell
            for cell in chapters.code_cells(chapters.read(known[name].source))
            if "parameters" in cell.metadata.get("tags", [])
        )
        sizes = {}
        exec(cell.source, sizes)
        assert set(values) <= set(sizes), f"{name} has no such parameter"
