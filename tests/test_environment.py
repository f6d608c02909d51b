"""The environment is described three times, and the three agree: pyproject, lock, environment."""

import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from library_wheel import built_wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from book.press.chapters import ROOT
from book.press.doctor import locked

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
OWN_LOCK = {
    "older": ROOT / "tests" / "older" / "requirements.lock",
    "jax": ROOT / "tests" / "backends" / "jax.lock",
    "torch": ROOT / "tests" / "backends" / "torch.lock",
}
LOCKS = [ROOT / "requirements.lock", *OWN_LOCK.values()]


def direct():
    """The direct dependencies of pyproject.toml, all groups together."""
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    groups = PYPROJECT["dependency-groups"]
    lists += [groups[name] for name in groups if name not in OWN_LOCK]
    return [Requirement(line) for group in lists for line in group]


@pytest.mark.parametrize("requirement", direct(), ids=lambda requirement: requirement.name)
def test_lock_satisfies_pyproject(requirement):
    versions = locked(ROOT).get(canonicalize_name(requirement.name), set())
    assert versions, f"{requirement.name} is not in requirements.lock: see CONTRIBUTING, the lock"
    for version in versions:
        assert version in requirement.specifier


def test_environment_yml_has_the_same_at_the_locked_versions():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    assert "python=3.12" in dependencies
    pip = dependencies[-1]["pip"]
    assert pip.pop() == "-e ."
    pinned = {canonicalize_name(name): version for name, version in (p.split("==") for p in pip)}
    assert set(pinned) == {canonicalize_name(requirement.name) for requirement in direct()}
    for name, version in pinned.items():
        assert {version} == locked(ROOT)[name], f"environment.yml has another {name} than the lock"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: f"{lock.parent.name}-{lock.name}")
def test_every_locked_package_is_pinned_and_hashed_and_has_no_address(lock):
    text = lock.read_text("utf-8")
    packages = re.split(r"\n(?=\w)", text.strip())
    assert len(packages) > (100 if lock is LOCKS[0] else 30)
    for package in packages:
        assert re.match(r"[\w.-]+==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_is_the_only_difference(backend):
    pinned = re.findall(r"^([\w.-]+)==(\S+)", OWN_LOCK[backend].read_text("utf-8"), flags=re.M)
    versions, ours = dict(pinned), locked(ROOT)
    assert backend in versions
    assert "tensorflow" not in versions
    assert {name: v for name, v in pinned if v not in ours.get(canonicalize_name(name), {v})} == {}
    for line in PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"][backend]:
        requirement = Requirement(line)
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_wheel_has_the_library_and_its_data_and_nothing_else(tmp_path):
    wheel = built_wheel(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0].split("-")[0] for name in names}
    assert roots == {"resnetlib"}
    for path in (ROOT / "resnetlib").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert wheel.stat().st_size < 11e6  # 7 of images, 4 of weights


@pytest.mark.parametrize(
    "module", ["resnetlib", "resnetlib.numpy_ops", "resnetlib.data", "resnetlib.plots"]
)
def test_importing_takes_no_keras_and_has_no_side_effect(module, tmp_path):
    code = (
        f"import {module}, sys; print(sorted(set(sys.modules) & "
        "{'keras', 'tensorflow', 'torch', 'jax', 'sklearn', 'matplotlib.pyplot'}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    allowed = {"[]", "['matplotlib.pyplot']"} if module == "resnetlib.plots" else {"[]"}
    assert run.stdout.strip() in allowed
    assert run.stderr == ""
    assert list(tmp_path.iterdir()) == []
