"""A tiny course in a temporary folder, on which the line can be broken on purpose."""

import base64
import io
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.press import chapters
from book.press.chapters import Chapter

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def code(source, *outputs, name, count=1, tags=(), alt=""):
    """A code cell with outputs, as a run leaves it."""
    metadata = {"tags": list(tags)} if tags else {}
    if alt:
        metadata["mystnb"] = {"image": {"alt": alt}}
    return new_code_cell(
        source, outputs=list(outputs), id=name, execution_count=count, metadata=metadata
    )


def text(words):
    """What print leaves."""
    return new_output("stream", name="stdout", text=words)


def error(name="ValueError", message="too small"):
    """What an exception leaves."""
    return new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])


def picture(height, width=4.0):
    """What a plot leaves: a bar of this height."""
    figure, axes = plt.subplots(figsize=(width, 3), dpi=60)
    axes.bar([0], [height])
    axes.set_ylim(0, 10)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    plt.close(figure)
    png = base64.b64encode(buffer.getvalue()).decode()
    return new_output("display_data", data={"image/png": png, "text/plain": "<Figure>"})


def notebook(*cells, title="A toy"):
    """A notebook whose first cell is its title."""
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return new_notebook(
        cells=[new_markdown_cell(f"# {title}", id="title"), *cells], metadata=metadata
    )


def project(root: Path, **notebooks) -> list[Chapter]:
    """Write a course of these notebooks (a keyword c01_name is the chapter 01_name)."""
    (root / "book").mkdir(parents=True, exist_ok=True)
    (root / "notebooks").mkdir(exist_ok=True)
    (root / "resnetlib").mkdir(exist_ok=True)
    (root / "book" / "profiles.yml").write_text("quick:\n")
    (root / "book" / "references.bib").write_text(
        "@book{known, title={A}, author={B}, publisher={C}, year=2000}\n"
    )
    (root / "book" / "index.md").write_text("# A toy course\n\nWelcome {cite:p}`known`.\n")
    (root / "book" / "bibliography.md").write_text("# Bibliography\n\n```{bibliography}\n```\n")
    shutil.copy(chapters.ROOT / "_config.yml", root)
    shutil.copy(chapters.ROOT / "requirements.lock", root)
    names = [name.removeprefix("c") for name in notebooks]
    for name, content in zip(names, notebooks.values(), strict=True):
        nbformat.write(content, root / "notebooks" / f"{name}.ipynb")
    pages = "".join(f"  - file: notebooks/{name}\n" for name in names)
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/index\nchapters:\n{pages}  - file: book/bibliography\n"
    )
    return chapters.find(root)


def ran(chapter: Chapter, *cells) -> None:
    """Pretend that a run gave these cells."""
    chapter.executed.parent.mkdir(parents=True, exist_ok=True)
    run = notebook(*cells)
    run.metadata["press"] = {"made_from": chapters.recipe(chapter), "seconds": 1.0}
    nbformat.write(run, chapter.executed)
