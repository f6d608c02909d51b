"""The other path: nbval's own kernel executes a chapter and compares it with the committed outputs.

The judge replays papermill's run. This starts a second kernel in nbval's own way, on one chapter;
the scheduled workflow does it for all.
"""

import subprocess
import sys

from book.press.chapters import ROOT
from book.press.execute import child_environment

CHAPTER = "notebooks/03_pooling.ipynb"


def test_plain_nbval_agrees_with_the_reference():
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q"]
    run = subprocess.run(
        [*command, "--nbval", "--nbval-current-env", CHAPTER],
        cwd=ROOT,
        env=child_environment(workers=1),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed" in run.stdout
