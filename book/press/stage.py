"""Lay out the tree that jupyter-book compiles: ``_build/source``, a mirror of the repository.

Prose and code come from the committed notebooks, outputs from the last run (or, for a preview, from
the committed notebooks too), so a change of prose shows without a run. Files are only written
when their content changed, which keeps Sphinx's own cache useful.
"""

import copy
import os
import re
import subprocess
from pathlib import Path

import nbformat
import yaml

from book.press import chapters
from book.press.chapters import Chapter

PAGES = ("*.md", "*.bib", "images/*.png", "images/*.svg", "images/*.jpg", "images/*.ico")
EDITED_BRANCH, COLAB_BRANCH = "main", "colab"


def address(root: Path) -> str | None:
    """Where this copy of the repository is published, or None: no file states it, so forks work.

    The CI's repository variable, else the remote ``origin``, when it is on a web host.
    """
    if os.environ.get("GITHUB_REPOSITORY"):
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{os.environ['GITHUB_REPOSITORY']}"
    answer = subprocess.run(
        ["git", "remote", "get-url", "origin"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.fullmatch(
        r"(?:https://(?:[^@/]*@)?|git@|ssh://git@)([\w.-]+\.\w+)[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?",
        answer.stdout.strip(),
    )
    return f"https://{match[1]}/{match[2]}" if match else None


def configuration(root: Path, url: str | None) -> str:
    """``_config.yml``, with what follows from the address when there is one."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    if url:
        host, owner, name = url.removeprefix("https://").split("/")
        html, launch = config["html"], config["launch_buttons"]
        html |= {"use_repository_button": True, "use_edit_page_button": True}
        # The theme builds both addresses from one branch, but a reader edits the source and runs
        # the published copy: the extension puts the branch of the edit link right.
        config["repository"] = {"url": url, "branch": COLAB_BRANCH}
        config["sphinx"]["config"]["course_edit_branch"] = EDITED_BRANCH
        if host == "github.com":
            launch["colab_url"] = "https://colab.research.google.com"
            html["baseurl"] = f"https://{owner.lower()}.github.io/{name}/"
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def page_notebook(chapter: Chapter, preview: bool) -> nbformat.NotebookNode:
    """The committed notebook with the outputs of the last run in it."""
    notebook = copy.deepcopy(chapters.read(chapter.source))
    if not preview:
        fresh = chapters.code_cells(chapters.read(chapter.executed))
        for cell, ran in zip(chapters.code_cells(notebook), fresh, strict=True):
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    return notebook


def stage(root: Path, selected: list[Chapter], preview: bool = False) -> Path:
    """Write ``_build/source`` and return it."""
    target = root / "_build" / "source"
    wanted = {
        Path("_config.yml"): configuration(root, address(root)).encode(),
        Path("_toc.yml"): (root / "_toc.yml").read_bytes(),
    }
    for pattern in PAGES:
        for path in (root / "book").glob(pattern):
            wanted[path.relative_to(root)] = path.read_bytes()
    for chapter in selected:
        text = nbformat.writes(page_notebook(chapter, preview)) + "\n"
        wanted[chapter.source.relative_to(root)] = text.encode()
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = target / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return target
