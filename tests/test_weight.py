"""The repository stays light: no file over 8 MB, no notebook over 1 MB, no figure over 200 kB."""

import base64
import subprocess

import pytest

from book.press import chapters

TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=chapters.ROOT, capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    ("suffix", "most"),
    [("", 8_000_000), (".ipynb", 1_000_000)],
)
def test_files_are_light(suffix, most):
    sizes = {
        name: (chapters.ROOT / name).stat().st_size
        for name in TRACKED
        if name.endswith(suffix) and (chapters.ROOT / name).exists()
    }
    assert {name: size for name, size in sizes.items() if size > most} == {}


def test_page_pictures_are_light():
    heavy = [
        name
        for name in TRACKED
        if name.startswith("book/images/") and (chapters.ROOT / name).stat().st_size > 200_000
    ]
    assert heavy == []


@pytest.mark.parametrize("chapter", chapters.find(), ids=lambda chapter: chapter.name)
def test_figures_are_light(chapter):
    heavy = [
        cell.id
        for cell in chapters.code_cells(chapters.read(chapter.source))
        for output in cell.outputs
        if len(base64.b64decode(output.get("data", {}).get("image/png", ""))) > 200_000
    ]
    assert heavy == []
