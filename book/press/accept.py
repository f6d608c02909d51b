"""Make the last run the reference: show what moved, then rewrite the committed notebooks.

Where the chapter's code is still that of the last accept, only the outputs that the judge rejects
are replaced. What it accepts (within a tolerance, or never compared) keeps its old outputs, so that
a diff shows what changed and nothing else. Where the code changed, all outputs are taken: a
committed notebook must not mix two runs. Its ``metadata.press.accepted`` says which code was
accepted last.
"""

import base64
import contextlib
import difflib
import html
import io
import os
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from book.press import chapters
from book.press.chapters import Chapter
from book.press.judge import joined

STYLE = (
    "body{font:16px/1.5 system-ui;margin:2rem auto;max-width:80rem;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.7rem;overflow:auto}img{max-width:100%;border:1px solid #999}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}"
    "ins{background:#cfc}del{background:#fcc}"
)


class Verdicts:
    """A pytest plugin that keeps the judge's verdict on each cell and prints nothing."""

    def __init__(self) -> None:
        """Start with no verdict."""
        self.rejected: dict[tuple[str, int], str] = {}
        self.judged: set[tuple[str, int]] = set()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        """Note a judged cell, and why it was rejected."""
        if call.when == "call":
            key = (item.parent.path.stem, item.cell_num)
            self.judged.add(key)
            if call.excinfo is not None:
                self.rejected[key] = str(call.excinfo.value)


def judge(root: Path, selected: list[Chapter]) -> Verdicts:
    """Let the judge look at the chapters, without a word."""
    verdicts, said = Verdicts(), io.StringIO()
    paths = [str(chapter.source) for chapter in selected]
    options = ["-p", "no:cacheprovider", "--color=no", "--rootdir", str(root), "-c", os.devnull]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(
            ["-p", "book.press.judge", "--judge", *options, *paths], plugins=[verdicts]
        )
    if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        raise RuntimeError(f"The judge could not look at the chapters:\n{said.getvalue()}")
    return verdicts


def text_of(outputs: list[NotebookNode]) -> str:
    """All text of a cell's outputs."""
    parts = []
    for output in outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append(f"{output.ename}: {output.evalue}")
        else:
            parts.append(output.data.get("text/plain", ""))
    return "\n".join(parts)


def images_of(outputs: list[NotebookNode]) -> list[str]:
    """The pictures of a cell, each as an HTML element."""
    return [
        f'<img alt="" src="data:image/png;base64,{"".join(output.data["image/png"].split())}">'
        for output in outputs
        if "image/png" in output.get("data", {})
    ]


def clean(outputs: list[NotebookNode], count: int) -> list[NotebookNode]:
    """Outputs as they are committed: no metadata of the run, and what was printed in one piece.

    A busy machine sends a cell's prints in several pieces, an idle one in fewer.
    """
    kept = []
    for output in joined(outputs):
        output = nbformat.from_dict(output)
        if output.output_type == "execute_result":
            output.execution_count = count
        if "metadata" in output:
            output.metadata = NotebookNode()
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])
        kept.append(output)
    return kept


def smaller(png: str) -> str:
    """The same pixels in fewer bytes: matplotlib compresses for speed, a repository for ever."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        opaque = image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255)
        buffer = io.BytesIO()
        (image.convert("RGB") if opaque else image).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def program(executed: NotebookNode) -> dict[str, str]:
    """The digests of the code and the parameters that a run was made from."""
    made_from = executed.metadata.press.made_from
    return {name: made_from[name] for name in ("its code", "its parameters")}


def accept(root: Path, selected: list[Chapter]) -> int:
    """Print and picture what moved in these chapters, then rewrite their references."""
    verdicts, report, moved = judge(root, selected), [], 0
    for chapter in selected:
        notebook, executed = chapters.read(chapter.source), chapters.read(chapter.executed)
        accepted = program(executed)
        same_code = notebook.metadata.get("press", {}).get("accepted") == accepted
        for number, (cell, ran) in enumerate(
            zip(chapters.code_cells(notebook), chapters.code_cells(executed), strict=True)
        ):
            key, fresh = (chapter.name, number), clean(ran.outputs, number + 1)
            kept = clean(cell.outputs, number + 1)
            why = verdicts.rejected.get(key, "" if key in verdicts.judged else "not judged")
            if not why and not same_code and fresh != kept:
                why = "Taken with the rest: the chapter's code changed since the last accept"
            if why:
                report += show(chapter.name, number, cell, ran, why)
                moved += 1
            cell.outputs = fresh if why else kept
            cell.execution_count = number + 1
        notebook.metadata = nbformat.from_dict(
            {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
                "press": {"accepted": accepted},
            }
        )
        nbformat.validate(notebook)
        nbformat.write(notebook, chapter.source)
    page = root / "_build" / "accept.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>What moved</title>'
        f"<style>{STYLE}</style><h1>What moved: {moved} cells</h1>{''.join(report)}</html>",
        "utf-8",
    )
    print(f"{moved} cells moved. Old and new side by side: {page.relative_to(root)}")
    return moved


def show(name: str, number: int, cell: NotebookNode, ran: NotebookNode, why: str) -> list[str]:
    """Print the difference of one cell, and give it as HTML."""
    old, new = text_of(cell.outputs), text_of(ran.outputs)
    difference = list(
        difflib.unified_diff(
            old.splitlines(), new.splitlines(), "reference", "run", lineterm="", n=1
        )
    )
    print(f"\n{name}, code cell {number} ({cell.id}): {why}")
    print("\n".join(f"    {line}" for line in difference[:40]))
    marked = [
        f"<{mark}>{html.escape(line)}</{mark}>"
        if (mark := {"+": "ins", "-": "del"}.get(line[:1]))
        else html.escape(line)
        for line in difference
    ]
    pictures = zip_pictures(images_of(cell.outputs), images_of(ran.outputs))
    return [
        f"<h2>{name}, code cell {number} ({cell.id})</h2><p>{html.escape(why)}</p>"
        f"<pre>{html.escape(cell.source)}</pre>",
        f"<pre>{chr(10).join(marked)}</pre>" if marked else "",
        *pictures,
    ]


def zip_pictures(old: list[str], new: list[str]) -> list[str]:
    """Old and new pictures in two columns."""
    rows = max(len(old), len(new))
    old, new = old + ["(none)"] * (rows - len(old)), new + ["(none)"] * (rows - len(new))
    return [
        f'<div class="pair"><div>reference<br>{a}</div><div>run<br>{b}</div></div>'
        for a, b in zip(old, new, strict=True)
        if a != b
    ]
