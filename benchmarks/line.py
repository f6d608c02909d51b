"""How long the line takes: python benchmarks/line.py [RUNS]. It works in a copy and prints a table.

clean     no _build: every chapter runs, every page is built
no-op     nothing changed
prose     one chapter's prose changed: its page is built, nothing is executed
chapter   one chapter's code changed: it runs, its page is built
preview   no _build: pages from the committed outputs

Then the targets: a clean build within 1.3 times the chapters' own training time divided by the
cores, plus 90 s; no-op under 5 s; prose under 15 s; at most 1 s a page. A chapter trains in the
cells that call `training.fit`. Prints tables and writes results/line.json beside this file. About
five minutes a run.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from report import circumstances, save

from book.press.compile import pages_of_contents

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = "03_pooling"
TRAINS = re.compile(r"\btraining\.fit\(|\btrain_and_test\(")


def run(root: Path, action: str) -> tuple[float, str]:
    """The wall time of one action of the press, and what it printed."""
    start = time.monotonic()
    command = [sys.executable, "-m", "book.press.actions", action]
    said = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return time.monotonic() - start, said


def chapter_seconds(root: Path) -> dict[str, dict[str, float]]:
    """Of each executed chapter: its process, and those of its cells that train."""
    found = {}
    for path in sorted((root / "_build" / "executed").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cells = [cell for cell in notebook.cells if TRAINS.search(cell.source)]
        trained = sum(cell.metadata.papermill.duration for cell in cells if cell.outputs)
        found[path.stem] = {"all": notebook.metadata.press.seconds, "training": round(trained, 1)}
    return found


def change(root: Path, kind: str) -> None:
    """Add a sentence, or a line of code, to one chapter."""
    path = root / "notebooks" / f"{CHAPTER}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == kind)
    cell.source += f"\n\n{'# ' if kind == 'code' else ''}changed at {time.time():.3f}"
    nbformat.write(notebook, path)


def main(runs: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "course"
        tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
        for name in tracked:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        steps = {
            "clean": lambda: shutil.rmtree(root / "_build", ignore_errors=True),
            "no-op": lambda: None,
            "prose": lambda: change(root, "markdown"),
            "chapter": lambda: change(root, "code"),
        }
        times = {name: [] for name in [*steps, "preview"]}
        for _ in range(runs):
            for name, prepare in steps.items():
                prepare()
                times[name].append(run(root, "book")[0])
                if name == "clean":
                    chapters = chapter_seconds(root)
            shutil.rmtree(root / "_build")
            seconds, said = run(root, "preview")
            times["preview"].append(seconds)
        compiling = int(re.search(r"pages (\d+) s", said)[1])
        pages = len(pages_of_contents(root))
    report = circumstances() | {
        "seconds": {name: {"median": statistics.median(v), "runs": v} for name, v in times.items()},
        "chapters": chapters,
        "pages": {"number": pages, "seconds": compiling},
    }
    save("line", report)
    show(report)


def show(report: dict) -> None:
    """Print the times, and which targets hold."""
    print(json.dumps(report["hardware"] | report["versions"]))
    print(f"{'step':16s}{'median':>9s}{'least':>9s}{'most':>9s}   seconds")
    for name, row in report["seconds"].items():
        print(f"{name:16s}{row['median']:9.1f}{min(row['runs']):9.1f}{max(row['runs']):9.1f}")
    print(f"\n{'chapter':16s}{'all':>9s}{'training':>9s}   seconds")
    for name, row in report["chapters"].items():
        print(f"{name:16s}{row['all']:9.1f}{row['training']:9.1f}")
    trained = sum(row["training"] for row in report["chapters"].values())
    limits = {
        "clean": 1.3 * trained / report["hardware"]["cores"] + 90,
        "no-op": 5,
        "prose": 15,
    }
    print()
    for name, limit in limits.items():
        median = report["seconds"][name]["median"]
        print(f"{name:16s}{median:9.1f} of{limit:6.0f} s   {verdict(median <= limit)}")
    each = report["pages"]["seconds"] / report["pages"]["number"]
    print(f"{'a page':16s}{each:9.2f} of{1:6.0f} s   {verdict(each <= 1)}")


def verdict(holds: bool) -> str:
    """How a target came out."""
    return "holds" if holds else "does not hold"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
