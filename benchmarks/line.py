"""How long the line takes: python benchmarks/line.py [RUNS]. It works in a copy and prints a table.

clean     no _build: every chapter runs, every page is built
no-op     nothing changed
prose     one chapter's prose changed: its page is built, nothing is executed
chapter   one chapter's code changed: it runs, its page is built
preview   no _build: pages from the committed outputs
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = "03_pooling"


def seconds(root: Path, action: str) -> float:
    """The wall time of one action of the press."""
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "book.press.actions", action],
        cwd=root,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - start


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
                times[name].append(seconds(root, "book"))
            shutil.rmtree(root / "_build")
            times["preview"].append(seconds(root, "preview"))
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'step':10s}{'median':>9s}{'least':>9s}{'most':>9s}   seconds of {runs} runs")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:10s}{median:9.1f}{min(values):9.1f}{max(values):9.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
