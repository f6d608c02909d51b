"""An environment of its own, made from a lock, for the tests that run elsewhere than in .venv."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path


def interpreter(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip(folder: Path, *arguments: str) -> str:
    """Run an environment's pip, and return what it printed."""
    command = [interpreter(folder), "-m", "pip", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


def make(folder: Path, lock: Path) -> None:
    """Make an environment, unless it was made from this lock by this Python."""
    stamp = folder / "made-from"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() + sys.version
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"\nSetting up {folder.name} (once for each lock; some minutes)", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    wheels = ["--only-binary", ":all:", "--require-hashes", "-r", str(lock)]
    pip(folder, "install", "--quiet", "--no-compile", *wheels)
    stamp.write_text(digest)
