"""The wheel of resnetlib as the working tree gives it, for the tests that open or install it."""

import subprocess
import sys
from pathlib import Path

from book.press.chapters import ROOT

BUILD = "import sys; from flit_core.buildapi import build_wheel; build_wheel(sys.argv[1])"


def built_wheel(folder: Path) -> Path:
    """Build the wheel into an empty folder."""
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("resnetlib-*.whl")
    return wheel
