"""The page of the recorded results is what the results give now, and its claims can fail."""

import copy

import matplotlib.image
import pytest

from book.experiments import page
from book.press.chapters import ROOT
from book.press.judge import picture_difference

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


def test_a_claim_that_is_false_stops_the_page(tmp_path, monkeypatch):
    recorded = copy.deepcopy(page.results("degradation"))
    for run in recorded["runs"]:
        if run["network"] == "plain56":
            run["history"]["train_error"][-1] = 0.05
    monkeypatch.setattr(page, "results", lambda experiment: recorded)
    with pytest.raises(AssertionError):
        page.degradation(tmp_path)


def test_a_run_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no recorded run has .*plain110"):
        page.select(page.results("degradation")["runs"], network="plain110")
