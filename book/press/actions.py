"""The actions, inside the environment: ``python -m book.press ACTION`` and make come here."""

import os
import subprocess
import sys
import time
from pathlib import Path

from book.press import chapters, execute
from book.press.compile import PagesFailed, compile_pages
from book.press.stage import stage


def book(root: Path = chapters.ROOT, profile: str = "quick", preview: bool = False) -> bool:
    """Execute what changed and compile the pages; False when a chapter or a page failed."""
    start = time.monotonic()
    selected = chapters.find(root)
    if not preview and not execute.run(selected, profile):
        print("\nThe book was not built: a chapter failed (above).", file=sys.stderr)
        return False
    executed = time.monotonic()
    try:
        html = compile_pages(root, stage(root, selected, preview))
    except PagesFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return False
    end = time.monotonic()
    if not preview:
        for chapter in selected:
            press = chapters.read(chapter.executed).metadata.press
            print(f"  {chapter.name:24s}{press.seconds:6.0f} s")
    print(
        f"chapters {executed - start:.0f} s, pages {end - executed:.0f} s, both {end - start:.0f} s"
    )
    print(f"The book: {(html / 'index.html').relative_to(root)}")
    return True


def run_tests(root: Path = chapters.ROOT) -> bool:
    """Build the book, then judge it and run the tests."""
    if not book(root):
        return False
    options, environment = execute.side_by_side()
    command = [sys.executable, "-m", "pytest", "--judge", *options]
    return subprocess.call(command, cwd=root, env=environment) == 0


def older(root: Path = chapters.ROOT) -> bool:
    """Test the library in an environment with the oldest versions that it supports."""
    return subprocess.call([sys.executable, "-m", "pytest", "tests/older"], cwd=root) == 0


def backends(root: Path = chapters.ROOT) -> bool:
    """Test the models with Keras on JAX and PyTorch, each in an environment of its own."""
    driver = "tests/backends/test_backends.py"
    return subprocess.call([sys.executable, "-m", "pytest", driver], cwd=root) == 0


def lab(root: Path = chapters.ROOT) -> bool:
    """Open JupyterLab on the notebooks."""
    command = [sys.executable, "-m", "jupyterlab"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container there is often only root
        command.append("--allow-root")
    return subprocess.call(command, cwd=root / "notebooks") == 0


def accept(root: Path = chapters.ROOT, only: str = "") -> bool:
    """Run what changed, show what moved and make the run the reference."""
    from book.press.accept import accept as rewrite

    selected = chapters.find(root, only)
    if not execute.run(selected):
        return False
    rewrite(root, selected)
    return True


def main(action: str) -> bool:
    """Run one action; its options are environment variables, as the README says."""
    profile = os.environ.get("PROFILE") or "quick"
    if action == "book":
        return book(profile=profile)
    if action == "preview":
        return book(preview=True)
    if action == "accept":
        return accept(only=os.environ.get("CHAPTER") or "")
    if action == "doctor":
        from book.press.doctor import doctor

        return doctor()
    return {"test": run_tests, "older": older, "test-backends": backends, "lab": lab}[action]()


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
