"""The oldest versions that resnetlib supports, and the way in which Colab installs it.

``make older`` runs this. It makes ``.venv-older`` from ``tests/older/requirements.lock``:
TensorFlow 2.18, Keras 3.6, NumPy 1.26, and no resnetlib. There, the first cell of a published
notebook must install resnetlib without touching any other package, the chapter must run, and then
the library's own tests must pass.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import locked_environment
import pytest
from library_wheel import built_wheel

from book.press import chapters, colab
from book.press.execute import side_by_side

HERE = Path(__file__).parent
FOLDER = chapters.ROOT / ".venv-older"
PYTHON = locked_environment.interpreter(FOLDER)
pip = partial(locked_environment.pip, FOLDER)
CHAPTER = "03_pooling"
LIBRARY_TESTS = [
    *("numpy_ops", "data", "plots", "tables", "ledger", "training"),
    *("recipe", "classic_blocks", "models"),
]
# Of the architectures one small model of each family. Keras 3.6 builds a pooling layer without
# output, and test_on_batch there takes no list of losses: two tests ask for what came later.
SMALL = [
    "-k",
    "(not test_models or (mini and not heart)) and not is_the_smallest and not auxiliary_heads",
]
EXECUTE = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="TensorFlow 2.18 has no package for Python 3.13"
)


def installed():
    """Every installed package with its version, without resnetlib."""
    lines = pip("list", "--format=freeze").splitlines()
    return [line for line in lines if not line.startswith("resnetlib")]


@pytest.fixture(scope="module")
def older():
    """The older environment, made when its lock changed, without resnetlib."""
    locked_environment.make(FOLDER, HERE / "requirements.lock")
    pip("uninstall", "--quiet", "--yes", "resnetlib")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """What the repository's address would give, built from this working tree."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


def run_inside(*arguments, cwd):
    """Run the older Python with this environment's packages and paths kept out."""
    _, environment = side_by_side()
    environment.pop("PYTHONPATH")
    return subprocess.run(
        [PYTHON, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_colab_contract(older, wheel, tmp_path, monkeypatch):
    before = installed()
    assert run_inside("-c", "import resnetlib", cwd=tmp_path).returncode == 1
    monkeypatch.setattr(colab, "source_at", lambda root: wheel.as_uri())
    colab.write(tmp_path, preview=True)
    path = tmp_path / "notebooks" / f"{CHAPTER}.ipynb"
    assert "%pip install --quiet --no-deps" in chapters.read(path).cells[1].source
    run = run_inside("-c", EXECUTE, str(path), cwd=path.parent)
    assert run.returncode == 0, run.stderr[-4000:]
    assert installed() == before
    cells = chapters.code_cells(chapters.read(path))
    assert all(cell.execution_count for cell in cells)


def test_library_passes_its_own_tests(older, wheel):
    pip("install", "--quiet", "--no-deps", "--force-reinstall", str(wheel))
    workers, _ = side_by_side()
    paths = [f"test_{name}.py" for name in LIBRARY_TESTS]
    options = ["-q", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"]
    run = run_inside("-m", "pytest", *options, *workers, *SMALL, *paths, cwd=HERE.parent)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
