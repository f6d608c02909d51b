"""The judge must reject what moved, and accept what may move: each proof plants one difference."""

import subprocess
import sys

import nbformat
import numpy as np
import pytest
from toy import code, error, notebook, picture, project, ran, text

from book.press import chapters
from book.press.accept import accept, judge
from book.press.judge import joined, pictures


def verdict(folder, reference, run):
    """The judge's words on a chapter of one cell; empty when it accepts the run."""
    (chapter,) = project(folder, c01_toy=notebook(reference))
    ran(chapter, run)
    verdicts = judge(folder, [chapter])
    assert verdicts.judged == {("01_toy", 0)}
    return verdicts.rejected.get(("01_toy", 0), "")


def cell(*outputs, source="show()", count=1, tags=()):
    return code(source, *outputs, name="show", count=count, tags=tags)


@pytest.mark.parametrize(
    "cells",
    [
        (cell(text("26\n")), cell(text("26\n"))),
        (cell(picture(5)), cell(picture(5))),
        (cell(error(), tags=["raises-exception"]), cell(error(), tags=["raises-exception"])),
        (cell(text("3 s"), tags=["nbval-ignore-output"]), cell(text("4 s"))),
        (cell(text("accuracy 0.874"), tags=["tolerance-0.03"]), cell(text("accuracy 0.861"))),
        (
            cell(text("from -0.20 to 1.5e-1"), tags=["tolerance-0.1"]),
            cell(text("from -0.15 to 0.2")),
        ),
        (cell(picture(5), tags=["tolerance-figure"]), cell(picture(6))),
    ],
    ids=["text", "picture", "promised-error", "wall-time", "tolerance", "signs", "trained-picture"],
)
def test_accepts_what_may_be(tmp_path, cells):
    assert verdict(tmp_path, *cells) == ""


@pytest.mark.parametrize(
    ("reference", "run", "says"),
    [
        (cell(text("26\n")), cell(text("28\n")), "outputs differ"),
        (cell(text("26\n")), cell(), "outputs differ"),
        (cell(), cell(text("26\n")), "outputs differ"),
        (cell(picture(5)), cell(picture(6)), "Picture 1 differs"),
        (cell(picture(5)), cell(picture(5, width=5)), "Picture 1 differs"),
        (cell(picture(5), tags=["tolerance-figure"]), cell(picture(5, 5)), "Picture 1 differs"),
        (cell(picture(5)), cell(text("no picture")), "outputs differ"),
        (cell(picture(5), picture(5)), cell(picture(5)), "outputs differ"),
        (cell(text("a")), cell(text("a"), source="show(2)"), "another source"),
        (cell(text("a"), count=None), cell(text("a")), "never executed"),
        (cell(text("a"), count=7), cell(text("a")), "not from top to bottom"),
        (cell(text("a")), cell(text("a"), error()), "The cell raised"),
        (cell(error(), tags=["raises-exception"]), cell(), "promised an exception"),
        (
            cell(error(), tags=["raises-exception"]),
            cell(error("TypeError")),
            "outputs differ",
        ),
        (cell(text("0.874"), tags=["tolerance-0.03"]), cell(text("0.934")), "outputs differ"),
        (cell(text("10, 0.5"), tags=["tolerance-0.03"]), cell(text("11, 0.5")), "outputs differ"),
        (cell(text("0.5 0.5"), tags=["tolerance-0.03"]), cell(text("0.5")), "outputs differ"),
    ],
    ids=[
        "changed-digit", "run-lost-output", "reference-lost-output", "changed-picture",
        "picture-size", "trained-picture-size", "no-picture", "one-picture-less", "edited-cell",
        "unexecuted-cell", "out-of-order", "raised", "no-longer-raises", "raises-another",
        "beyond-tolerance", "integer-in-tolerance", "number-missing",
    ],
)  # fmt: skip
def test_rejects_what_moved(tmp_path, reference, run, says):
    assert says in verdict(tmp_path, reference, run)


def test_failure_names_chapter_cell_and_both_values(tmp_path):
    (chapter,) = project(tmp_path, c01_toy=notebook(cell(text("26\n"))))
    ran(chapter, cell(text("28\n")))
    options = [
        "-p",
        "book.press.judge",
        "--color=no",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--judge", *options, str(chapter.source)],
        capture_output=True,
        text=True,
        cwd=chapters.ROOT,
        check=False,
    )
    assert run.returncode == 1
    for words in ("01_toy.ipynb", "Cell 0", "show()", "26", "28"):
        assert words in run.stdout


def test_missing_run_and_other_source_are_errors(tmp_path):
    (chapter,) = project(tmp_path, c01_toy=notebook(cell(text("26\n"))))
    assert judge(tmp_path, [chapter]).judged == set()
    ran(chapter, cell(text("26\n")), code("more()", name="more", count=2))
    assert judge(tmp_path, [chapter]).judged == set()


METRIC = code("print(accuracy)", text("0.874\n"), name="metric", tags=["tolerance-0.03"])
WALL_TIME = code("tick()", text("3 s\n"), name="tick", count=2, tags=["nbval-ignore-output"])


def test_accept_rewrites_only_what_moved(tmp_path, capsys):
    reference = (
        METRIC,
        WALL_TIME,
        code("print(size)", text("26\n"), name="size", count=3),
        code("plot()", picture(5), name="plot", count=4),
    )
    (chapter,) = project(tmp_path, c01_toy=notebook(*reference))
    ran(chapter, *reference)
    assert accept(tmp_path, [chapter]) == 0
    ran(
        chapter,
        code("print(accuracy)", text("0.861\n"), name="metric"),
        code("tick()", text("4 s\n"), name="tick", count=2),
        code("print(size)", text("28\n"), name="size", count=3),
        code("plot()", picture(7), name="plot", count=4),
    )
    capsys.readouterr()
    assert accept(tmp_path, [chapter]) == 2
    metric, tick, size, plot = chapters.code_cells(chapters.read(chapter.source))
    assert metric.outputs[0].text == "0.874\n", "within the tolerance: the reference stays"
    assert tick.outputs[0].text == "3 s\n", "never compared: the reference stays"
    assert size.outputs[0].text == "28\n"
    assert np.array_equal(*(pictures(outputs) for outputs in (plot.outputs, [picture(7)])))
    said = capsys.readouterr().out
    assert "-26" in said
    assert "+28" in said
    page = (tmp_path / "_build" / "accept.html").read_text()
    assert page.count("<img") == 2
    assert judge(tmp_path, [chapter]).rejected == {}
    assert set(chapters.read(chapter.source).metadata.press) == {"accepted"}
    assert accept(tmp_path, [chapter]) == 0


def new_epochs(folder):
    profiles = folder / "book" / "profiles.yml"
    profiles.write_text("quick:\n  01_toy: {EPOCHS: 3}\n")


def new_cell(folder):
    path = folder / "notebooks" / "01_toy.ipynb"
    changed = chapters.read(path)
    changed.cells[-1].source = "print(6 * 7)"
    chapters.nbformat.write(changed, path)


def new_prose(folder):
    path = folder / "notebooks" / "01_toy.ipynb"
    changed = chapters.read(path)
    changed.cells[0].source = "# Another title"
    chapters.nbformat.write(changed, path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [(new_cell, ["0.861\n", "4 s\n"]), (new_epochs, ["0.861\n", "4 s\n"]),
     (new_prose, ["0.874\n", "3 s\n"])],
    ids=["code", "parameters", "prose"],
)  # fmt: skip
def test_accept_never_mixes_the_outputs_of_two_programs(tmp_path, capsys, change, expected):
    answer = code("print(42)", text("42\n"), name="answer", count=3)
    (chapter,) = project(tmp_path, c01_toy=notebook(METRIC, WALL_TIME, answer))
    ran(chapter, METRIC, WALL_TIME, answer)
    accept(tmp_path, [chapter])
    change(tmp_path)
    source = chapters.code_cells(chapters.read(chapter.source))[-1].source
    ran(
        chapter,
        code("print(accuracy)", text("0.861\n"), name="metric"),
        code("tick()", text("4 s\n"), name="tick", count=2),
        code(source, text("42\n"), name="answer", count=3),
    )
    capsys.readouterr()
    moved = accept(tmp_path, [chapter])
    metric, tick, _ = chapters.code_cells(chapters.read(chapter.source))
    assert [metric.outputs[0].text, tick.outputs[0].text] == expected
    assert moved == (2 if expected[0] == "0.861\n" else 0)
    assert ("code changed since the last accept" in capsys.readouterr().out) == (moved == 2)


def test_accept_writes_prints_in_one_piece(tmp_path):
    (chapter,) = project(tmp_path, c01_toy=notebook(cell(text("26\n28\n"))))
    ran(chapter, cell(text("26\n"), text("28\n")))
    assert accept(tmp_path, [chapter]) == 0
    (shown,) = chapters.code_cells(chapters.read(chapter.source))
    assert [output.text for output in shown.outputs] == ["26\n28\n"]


def test_what_was_printed_in_pieces_is_joined_once_however_often_it_is_asked_for():
    pieces = [nbformat.v4.new_output("stream", text=text) for text in ("one ", "line\n")]
    for _ in range(2):
        assert [output.text for output in joined(pieces)] == ["one line\n"]
