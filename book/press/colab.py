"""Write the notebooks that Colab opens: executed, with a bootstrap cell, in plain Markdown.

``python -m book.press.colab FOLDER`` writes them for the branch that the workflow publishes. The
bootstrap cell installs ``resnetlib`` from this repository, at this commit, and nothing else
(``--no-deps``): what Colab has is never upgraded. Colab knows no MyST: its directives become
quotes and its roles become text.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell
from pybtex.database import parse_file

from book.press import chapters
from book.press.stage import address, page_notebook

BOOTSTRAP = """\
# Colab: install the course's own small library, and nothing else.
%pip install --quiet --no-deps "resnetlib @ {source}"
"""
FENCE = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>[\w:-]+)\}[ ]*(?P<title>[^\n]*)\n"
    r"(?P<options>(?::[\w-]+:[^\n]*\n)*)(?P<body>.*?)^(?P=fence)[ ]*$",
    flags=re.MULTILINE | re.DOTALL,
)
EQUATION = re.compile(r"^\$\$[ ]*\(([\w-]+)\)[ ]*$", flags=re.MULTILINE)
ROLE = re.compile(r"\{(?P<role>[\w:]+)\}`(?P<text>[^`<]+?)(?:\s*<(?P<target>[^`>]*)>)?`")


def source_at(root: Path) -> str:
    """What pip installs: this repository at this commit.

    Raises SystemExit where the repository has no known address.
    """
    url = address(root)
    if url is None:
        raise SystemExit(
            "This repository has no web address, so Colab could not install from it.\n"
            "Set GITHUB_REPOSITORY=owner/name, or add a remote: git remote add origin ADDRESS"
        )
    commit = (
        os.environ.get("GITHUB_SHA")
        or subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    return f"git+{url}.git@{commit}"


def authors_and_years(bibliography: Path) -> dict[str, str]:
    """How each source is named in running text: ``He et al. (2015)``."""
    named = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        people = [" ".join(person.last_names) for person in entry.persons["author"]]
        who = people[0] if len(people) == 1 else " and ".join(people)
        if len(people) > 2:
            who = f"{people[0]} et al."
        named[key] = f"{who} ({entry.fields['year']})"
    return named


def numbers(notebooks: dict[int, nbformat.NotebookNode]) -> dict[str, str]:
    """The number of each labelled equation and figure, as the book counts them: chapter.place."""
    found = {}
    for chapter, notebook in notebooks.items():
        prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        figures = [cell.metadata.get("mystnb", {}).get("figure", {}) for cell in notebook.cells]
        for labels in (EQUATION.findall(prose), [f["name"] for f in figures if "name" in f]):
            found |= {label: f"{chapter}.{place}" for place, label in enumerate(labels, 1)}
    return found


def plain_markdown(text: str, sources: dict[str, str], numbered: dict[str, str]) -> str:
    """MyST as plain Markdown: directives as quotes with a bold title, roles as their text."""

    def quote(match: re.Match) -> str:
        title = match["title"] if match["kind"] == "admonition" else match["kind"].capitalize()
        body = FENCE.sub(quote, match["body"]).strip("\n")
        lines = [f"**{title}**", "", *body.splitlines()]
        return "\n".join(f"> {line}".rstrip() for line in lines)

    def words(match: re.Match) -> str:
        if match["role"].startswith("cite"):
            named = [sources[key.strip()] for key in match["text"].split(",")]
            bare = [re.sub(r"\((\d+)\)$", r"\1", name) for name in named]
            in_brackets = match["role"] != "cite:t"
            return f"({'; '.join(bare)})" if in_brackets else " and ".join(named)
        if match["role"] == "eq":
            return f"({numbered[match['text']]})"
        if match["role"] == "numref":
            return f"Figure {numbered[match['text']]}"
        return match["text"]

    text = FENCE.sub(quote, text)
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)  # targets of references
    text = EQUATION.sub(lambda match: f"\\tag{{{numbered[match[1]]}}}\n$$", text)
    return ROLE.sub(words, text)


def colab_notebook(
    notebook: nbformat.NotebookNode, source: str, sources: dict[str, str], numbered: dict[str, str]
) -> nbformat.NotebookNode:
    """A chapter for Colab: a bootstrap cell after the title, a caption below each figure."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = plain_markdown(cell.source, sources, numbered)
        if "solution" in cell.metadata.get("tags", []):
            cell.metadata["cellView"] = "form"  # Colab's way to fold code
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure:
            caption = plain_markdown(figure["caption"], sources, numbered)
            caption = f"*Figure {numbered[figure['name']]}. {caption}*"
            cells.append(new_markdown_cell(caption, id=f"caption-{figure['name']}"))
    bootstrap = new_code_cell(BOOTSTRAP.format(source=source).strip(), id="bootstrap")
    notebook.cells = [cells[0], bootstrap, *cells[1:]]
    return notebook


def write(folder: Path, root: Path = chapters.ROOT, preview: bool = False) -> None:
    """Write all chapters to ``folder/notebooks``."""
    source = source_at(root)
    sources = authors_and_years(root / "book" / "references.bib")
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    selected = {int(chapter.name[:2]): chapter for chapter in chapters.find(root)}
    notebooks = {number: page_notebook(ch, preview) for number, ch in selected.items()}
    numbered = numbers(notebooks)
    for number, chapter in selected.items():
        ready = colab_notebook(notebooks[number], source, sources, numbered)
        nbformat.validate(ready)
        nbformat.write(ready, folder / "notebooks" / f"{chapter.name}.ipynb")
        print(f"{chapter.name}: installs {source}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m book.press.colab FOLDER")
    write(Path(sys.argv[1]))
