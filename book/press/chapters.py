"""What a chapter is made from, and therefore when it must run again.

An executed notebook carries its own recipe: the digest of everything that went into it
(``metadata.press.made_from``). Product and recipe are one file that is put in place by one rename,
so no killed run can leave them disagreeing, and the reason to run again is a comparison of two
dictionaries.
"""

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Chapter:
    """A notebook of the course, in the tree under ``root``."""

    root: Path
    name: str

    @property
    def source(self) -> Path:
        """The committed notebook: the code, and the outputs of the last accepted run."""
        return self.root / "notebooks" / f"{self.name}.ipynb"

    @property
    def executed(self) -> Path:
        """The last good run."""
        return self.root / "_build" / "executed" / f"{self.name}.ipynb"

    @property
    def failed(self) -> Path:
        """The notebook as far as it came, when the last run failed."""
        return self.root / "_build" / "failed" / f"{self.name}.ipynb"


def find(root: Path = ROOT, only: str = "") -> list[Chapter]:
    """All chapters in reading order, or those whose name contains ``only``."""
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    chapters = [Chapter(root, path.stem) for path in paths if only in path.stem]
    if not chapters:
        names = ", ".join(path.stem for path in paths) or "none: notebooks/ is empty"
        raise SystemExit(f"No chapter matches {only!r}. The chapters are: {names}")
    return chapters


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook in the current format."""
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells of a notebook, without the one that papermill injects."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def parameters(chapter: Chapter, profile: str) -> dict:
    """What ``book/profiles.yml`` sets for a chapter; the quick profile sets nothing."""
    profiles = yaml.safe_load((chapter.root / "book" / "profiles.yml").read_text("utf-8"))
    if profile not in profiles:
        raise SystemExit(f"No profile {profile!r}. book/profiles.yml has: {', '.join(profiles)}")
    return (profiles[profile] or {}).get(chapter.name) or {}


def parses(source: str) -> bool:
    """Whether a cell is Python; one with a slip in it, or a magic, is left for the run to judge."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def imported_files(code: str, root: Path) -> list[Path]:
    """The files of resnetlib that this code imports, followed through their own imports."""
    package, found, waiting = root / "resnetlib", set(), [code]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(filter(None, ["resnetlib" if node.level else "", node.module]))
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                parts = name.split(".")
                if parts[0] != "resnetlib":
                    continue
                stem = package.joinpath(*parts[1:])
                for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                    if path.is_file() and path not in found:
                        found.add(path)
                        waiting.append(path.read_text("utf-8"))
    return sorted(found)


def package_data(code: str, files: list[Path], root: Path) -> list[Path]:
    """The style and data files that a chapter uses: those whose name stands in what it runs.

    A data set counts as used when the chapter's own code names its loader; ``data.py`` itself names
    every set and would make each chapter depend on all of them.
    """
    package = root / "resnetlib"
    library = "".join(path.read_text("utf-8") for path in files if path.name != "data.py")
    return [
        path
        for path in sorted(package.rglob("*"))
        if path.is_file()
        and path.suffix not in {".py", ".pyc", ".md"}
        and re.sub(r"(_train|_test)?\..*", "", path.name) in code + library
    ]


def recipe(chapter: Chapter, profile: str = "quick") -> dict[str, str]:
    """What the chapter would be made from now: the name of each ingredient and its digest."""
    notebook = read(chapter.source)
    cells = [
        (cell.source, "raises-exception" in cell.metadata.get("tags", []))
        for cell in code_cells(notebook)
    ]
    code = "\n".join(source for source, _ in cells if parses(source))
    files = imported_files(code, chapter.root)
    files += package_data(code, files, chapter.root)
    ingredients = {
        "its code": digest(json.dumps(cells).encode()),
        "its parameters": digest(json.dumps(parameters(chapter, profile), sort_keys=True).encode()),
    }
    for path in [*files, chapter.root / "requirements.lock"]:
        ingredients[path.relative_to(chapter.root).as_posix()] = digest(path.read_bytes())
    return ingredients


def reasons(chapter: Chapter, profile: str = "quick") -> list[str]:
    """Why the chapter must run, a phrase for each ingredient that moved; empty when up to date."""
    if not chapter.executed.exists():
        return ["never run"]
    old = read(chapter.executed).metadata.press.made_from
    new = recipe(chapter, profile)
    return [
        *(f"{name} changed" for name in new if name in old and old[name] != new[name]),
        *(f"{name} is new" for name in new if name not in old),
        *(f"{name} is no longer used" for name in old if name not in new),
    ]


def digest(content: bytes) -> str:
    """A short fingerprint of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
