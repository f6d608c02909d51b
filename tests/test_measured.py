"""The page of the recorded results is what the results give now, and its claims can fail."""

import math

import matplotlib.image
import pytest

from book.experiments import page
from book.press.chapters import ROOT
from book.press.judge import picture_difference
from resnetlib import models
from resnetlib.ledger import ledger

STALE = "is not what the results give: python -m book.experiments.page"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    page.write(folder)
    return folder


def test_the_page_is_what_the_results_give(written):
    assert (ROOT / "book" / "measured.md").read_text() == (written / "measured.md").read_text(), (
        f"book/measured.md {STALE}"
    )


def test_its_pictures_are_what_the_results_give(written):
    committed, fresh = (
        {
            path.name: 255 * matplotlib.image.imread(path)
            for path in (folder / "images").glob("measured_*.png")
        }
        for folder in (ROOT / "book", written)
    )
    assert committed.keys() == fresh.keys()
    for name, picture in fresh.items():
        assert picture_difference(committed[name], picture) < 1, f"{name} {STALE}"


def last_error(error, measure="test", **which):
    """Return a function that spoils the last error of the runs with these values."""

    def spoil(recorded):
        for run in page.select(recorded["runs"], **which):
            run["history"][f"{measure}_error"][-1] = error

    return spoil


def quick_clothes(recorded):
    recorded["runs"]["chapter4"]["epochs"][0]["accuracy"] = 0.95


def slow_ours(recorded):
    for run in recorded["runs"]["0.94"]:
        run["seconds"] = 16 * run["chapter4_epoch"]


def slow_convolutions(recorded):
    for run in recorded["runs"]:
        run["layers_alone_seconds"]["Conv2D"] = run["step_seconds"]


def as_slow_with_16_bits(recorded):
    for run in recorded["runs"]:
        if run["setting"]["dtype_policy"] == "mixed_bfloat16":
            run["step_seconds"] *= 2


def more_memory(recorded):
    for run in page.select(recorded["runs"], network="vgg_mini"):
        run["peak_megabytes"] *= 2


def gone_gradients(recorded):
    for run in page.select(recorded["runs"], network="plain56"):
        for norms in run["gradient_norms"].values():
            norms[next(iter(norms))] = 1e-6


SPOILT = {
    "speed": ("time_to_accuracy", quick_clothes),
    "speed of ours": ("time_to_accuracy", slow_ours),
    "step": ("training_step", slow_convolutions),
    "step of 16 bits": ("training_step", as_slow_with_16_bits),
    "lineage memory": ("lineage", more_memory),
    "lineage": ("lineage", last_error(0.2, network="lenet_mini")),
    "degradation": ("degradation", last_error(0.05, "train", network="plain56")),
    "gradients": ("degradation", gone_gradients),
    "ablations": ("ablations", last_error(0.2, option="B")),
    "cifar": ("cifar_by_fit", last_error(0.2, network="resnet20", last_gamma=None)),
    "cifar shifted": ("cifar_by_fit", last_error(0.2, network="resnet20", border=4)),
    "cifar longer": ("cifar_in_bfloat16", last_error(0.1, network="resnet20")),
    "training_size": ("training_size", last_error(0.01, images=300)),
}


@pytest.mark.parametrize("section", SPOILT)
def test_a_claim_that_is_false_stops_the_page(section, tmp_path, monkeypatch):
    name, spoil = SPOILT[section]
    read = page.read

    def spoilt(*path):
        content = read(*path)
        if path[-1] == f"{name}.json":
            spoil(content)
        return content

    monkeypatch.setattr(page, "read", spoilt)
    with pytest.raises(AssertionError):
        page.step() if section.startswith("step") else getattr(page, section.split()[0])(tmp_path)


def test_convolutions_do_nearly_all_of_the_arithmetic():
    rows = ledger(models.build("resnet20", input_shape=(32, 32, 3), classes=10)).rows
    convolved = sum(row.macs for row in rows if row.kind == "Conv2D")
    normalized = sum(
        math.prod(row.output_shape) for row in rows if row.kind == "BatchNormalization"
    )
    # A batch normalization takes about ten operations for each of its numbers.
    assert convolved > 100 * normalized


def test_a_run_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no recorded run has .*plain110"):
        page.select(page.results("degradation")["runs"], network="plain110")
