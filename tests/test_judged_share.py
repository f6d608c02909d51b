"""Most cells that show something must really be compared, or the judge is a formality."""

import pytest

from book.press import chapters

LEAST_SHARE = 0.8


def compared(cell) -> bool:
    return "nbval-ignore-output" not in cell.metadata.get("tags", [])


@pytest.mark.parametrize("chapter", chapters.find(), ids=lambda chapter: chapter.name)
def test_cells_with_outputs_are_compared(chapter):
    shown = [cell for cell in chapters.code_cells(chapters.read(chapter.source)) if cell.outputs]
    judged = [cell for cell in shown if compared(cell)]
    assert shown, f"{chapter.name} shows nothing: it has not been accepted"
    share = len(judged) / len(shown)
    assert share >= LEAST_SHARE, (
        f"{chapter.name}: only {len(judged)} of {len(shown)} cells with outputs are compared"
    )
