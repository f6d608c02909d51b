"""The library's own tests on Keras' other backends, each in an environment of its own.

``make test-backends`` runs this. It makes ``.venv-backends-jax`` and ``.venv-backends-torch`` from
the locks beside this file, and shows there what pytest says. Beside the backend, every package has
the version of ``requirements.lock``, and TensorFlow is missing.

BACKEND=jax or torch takes one of them; MODELS=mini takes of the models only the small ones, one of
each family. In the JAX environment the engine of the experiments is tested as well.
"""

import os
import subprocess
from pathlib import Path

import locked_environment
import pytest

from book.press import chapters
from book.press.execute import side_by_side

HERE = Path(__file__).parent
LIBRARY_TESTS = [
    *("test_blocks.py", "test_classic_blocks.py"),
    *("test_models.py", "test_weights.py", "test_recipe.py"),
]
TESTS = {"jax": [*LIBRARY_TESTS, "backends/test_experiments.py"], "torch": LIBRARY_TESTS}
# By the name of the test or of its file; what a mini cannot have (the parity) is left out.
SMALL = "mini or test_blocks or test_classic_blocks or test_experiments"


def chosen():
    """The backends that BACKEND asks for: one, or all."""
    asked = os.environ.get("BACKEND")
    if asked and asked not in TESTS:
        raise ValueError(f"BACKEND must be one of {', '.join(TESTS)}; received {asked!r}")
    return [asked] if asked else list(TESTS)


def options():
    """The choice of tests that MODELS asks for."""
    asked = os.environ.get("MODELS")
    if asked not in (None, "", "mini"):
        raise ValueError(f"MODELS must be mini or left out, which takes all; received {asked!r}")
    return ["-k", SMALL] if asked else []


@pytest.mark.parametrize("backend", chosen())
def test_the_library_passes_its_own_tests(backend, capfd):
    workers, variables = side_by_side()
    variables |= {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    pytest_options = ["-q", "-rs", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"]
    folder = chapters.ROOT / f".venv-backends-{backend}"
    with capfd.disabled():
        locked_environment.make(folder, HERE / f"{backend}.lock")
        print(f"\n--- Keras on {backend}", flush=True)
        command = [
            locked_environment.interpreter(folder),
            "-m",
            "pytest",
            *pytest_options,
            *workers,
            *options(),
            *TESTS[backend],
        ]
        assert subprocess.call(command, cwd=HERE.parent, env=variables) == 0
