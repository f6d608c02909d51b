"""Compile the staged tree to HTML with jupyter-book, strictly, and check what came out."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from book.press import chapters


class PagesFailed(Exception):
    """The pages could not be built, or what was built is not whole."""


def compile_pages(root: Path, source: Path) -> Path:
    """Build ``_build/html`` from the staged tree, unless neither it nor the tools changed.

    The stamp that says what the pages were made from is taken away first and written last. Without
    it, everything is built anew: after a killed or failed run, nothing of it is trusted.
    """
    html, stamp = root / "_build" / "html", root / "_build" / "html.made-from"
    made_from = {
        path.relative_to(base).as_posix(): chapters.digest(path.read_bytes())
        for base in (source, chapters.ROOT)
        for path in sorted(base.rglob("*") if base == source else tools(base))
        if path.is_file()
    }
    old = json.loads(stamp.read_text()) if stamp.exists() else {}
    moved = [name for name in made_from | old if made_from.get(name) != old.get(name)]
    if not moved and (html / "index.html").exists():
        print("pages: up to date")
        return html
    print(f"pages: build, {'; '.join(moved[:3])}{' ...' if len(moved) > 3 else ''} changed")
    stamp.unlink(missing_ok=True)
    for path in (html, root / "_build" / ".doctrees"):
        shutil.rmtree(path, ignore_errors=True)
    jupyter_book = "from jupyter_book.cli.main import main; main()"
    command = [
        sys.executable, "-c", jupyter_book, "build", str(source),
        "--path-output", str(root), "--warningiserror", "--nitpick", "--keep-going", "--quiet",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(chapters.ROOT), "NO_COLOR": "1"}
    run = subprocess.run(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
    faults = [line for line in said.splitlines() if re.search(r"WARNING|ERROR|SEVERE", line)]
    if run.returncode or faults:
        shown = "\n".join(faults) or said[-4000:]
        shown = shown.replace(f"{source}{os.sep}", "")
        raise PagesFailed(f"jupyter-book found faults in the pages:\n{shown}")
    faults = whole_site(html, source)
    if faults:
        raise PagesFailed("The built pages are not whole:\n" + "\n".join(faults))
    stamp.write_text(json.dumps(made_from, indent=1))
    return html


def tools(root: Path) -> list[Path]:
    """The files that shape every page without being in the staged tree."""
    extension = (root / "book" / "press" / "sphinx_ext").rglob("*")
    return [
        root / "requirements.lock",
        *(path for path in extension if "__pycache__" not in path.parts),
    ]


def pages_of_contents(source: Path) -> list[str]:
    """The pages that ``_toc.yml`` names, as paths without a suffix, in reading order."""

    def walk(node: object) -> list[str]:
        if isinstance(node, list):
            return [page for item in node for page in walk(item)]
        if not isinstance(node, dict):
            return []
        own = [str(node[key]) for key in ("root", "file") if key in node]
        return own + [
            page for key in ("parts", "chapters", "sections") for page in walk(node.get(key))
        ]

    return walk(yaml.safe_load((source / "_toc.yml").read_text("utf-8")))


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        """Read the page."""
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Keep ids, links and everything the browser fetches by itself."""
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        relation = (values.get("rel") or "").split()
        if tag == "link" and {"stylesheet", "icon", "preload", "manifest"} & set(relation):
            self.loads.append(values.get("href") or "")
        if tag in {"script", "img", "iframe", "source", "video", "audio"} and values.get("src"):
            self.loads.append(values["src"])


def whole_site(html: Path, source: Path) -> list[str]:
    """Faults of a built site: missing pages, dead links and anchors, loads from elsewhere."""
    wanted = [html / f"{page}.html" for page in pages_of_contents(source)]
    faults = [
        f"{path.relative_to(html)}: in _toc.yml, but not in the site"
        for path in wanted
        if not path.exists()
    ]
    pages = {path: Page(path) for path in html.rglob("*.html") if "_static" not in path.parts}
    for path, page in pages.items():
        here = path.relative_to(html)
        for link in page.links + page.loads:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                if link in page.loads and target.scheme != "data":
                    faults.append(f"{here}: loads {link} from another site")
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            if file.is_dir():
                file /= "index.html"
            if not file.exists():
                faults.append(f"{here}: links to {link}, which does not exist")
            elif (
                target.fragment
                and link in page.links
                and file in pages
                and unquote(target.fragment) not in pages[file].anchors
            ):
                faults.append(f"{here}: links to {link}, but {file.name} has no such place")
    return sorted(set(faults))
