"""Judge the fresh run against the committed notebook with nbval's comparator, cell by cell.

A pytest plugin. ``pytest --judge notebooks`` collects each code cell of each committed notebook as
an item, and compares its outputs with those of the run in ``_build/executed`` (nothing is executed
again). To nbval's comparison it adds what nbval lacks: figures are compared as pictures, and a cell
may state a tolerance for the numbers that training gives.

Tags of a cell:

``tolerance-0.03``
    decimal numbers in its text may differ by 0.03 from the reference. Everything else, whole
    numbers included, must be the same.
``tolerance-figure``
    its picture depends on training: the same size, and alike (see ``FIGURE_RMS``).
``nbval-ignore-output``
    not compared at all: wall times, and nothing else.
``raises-exception``
    it must raise the exception that the reference shows.
"""

import base64
import copy
import io
import re
from pathlib import Path

import numpy as np
import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams
from PIL import Image

from book.press import chapters
from book.press.chapters import Chapter

# Root mean square difference of two pictures, on a scale of 0 to 255. The same code on another
# processor moves anti-aliased edges (measured: under 2). A curve that took another course, or a
# map with other colours, moves more. Where training draws the picture, only its layout can agree:
# ten other photos in the same frames gave 76.
FIGURE_RMS = 6.0
TRAINED_FIGURE_RMS = 100.0
DECIMAL = re.compile(r"[-+]?\d+\.\d+(?:[eE][-+]?\d+)?")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--judge``."""
    parser.addoption(
        "--judge", action="store_true", help="compare _build/executed with the committed notebooks"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Collect the chapters below the folder ``notebooks`` when asked to judge."""
    is_chapter = file_path.suffix == ".ipynb" and file_path.parent.name == "notebooks"
    if parent.config.getoption("judge") and is_chapter:
        return JudgedFile.from_parent(parent, path=file_path)
    return None


class JudgedFile(IPyNbFile):
    """A committed notebook, whose cells are compared with those of its fresh run."""

    def setup(self) -> None:
        """Read the sanitizers, as nbval does, and start no kernel."""
        self.setup_sanitize_files()

    def collect(self):  # noqa: ANN201
        """Pair the code cells of the reference with those of the run."""
        chapter = Chapter(self.path.parent.parent, self.path.stem)
        if not chapter.executed.exists():
            raise self.CollectError(f"{chapter.name} has no fresh run to judge: make book")
        fresh = chapters.code_cells(chapters.read(chapter.executed))
        items = list(super().collect())
        self.chapter = chapter
        if len(items) != len(fresh):
            raise self.CollectError(
                f"{chapter.name}: {len(items)} code cells are committed, the run has {len(fresh)}. "
                "The run is of another source: make book"
            )
        for item, cell in zip(items, fresh, strict=True):
            yield JudgedCell.from_parent(
                self, name=f"{item.name}: {cell.get('id', '')}", cell_num=item.cell_num,
                cell=item.cell, options=item.options, fresh=cell,
            )  # fmt: skip


class JudgedCell(IPyNbCell):
    """One code cell: its reference outputs, and the outputs of the fresh run."""

    def __init__(self, fresh: NotebookNode, **more) -> None:  # noqa: ANN003
        """Keep the cell of the fresh run beside the reference."""
        super().__init__(**more)
        self.fresh = fresh

    def setup(self) -> None:
        """Nothing to prepare: no kernel runs."""

    def runtest(self) -> None:
        """Fail with what moved, where, and what to do."""
        tags = self.cell.metadata.get("tags", [])
        if self.cell.source != self.fresh.source:
            self.raise_cell_error("The run is of another source than this cell: make book")
        if self.cell.execution_count is None:
            self.raise_cell_error(
                "The committed cell was never executed: make book, look at it, make accept"
            )
        if self.cell.execution_count != self.cell_num + 1:
            self.raise_cell_error(
                f"The committed cell was run as number {self.cell.execution_count}, not from top "
                "to bottom: make book, make accept"
            )
        errors = [output for output in self.fresh.outputs if output.output_type == "error"]
        promised = "raises-exception" in tags
        if errors and not promised:
            self.raise_cell_error("The cell raised", "\n".join(errors[0].traceback))
        if promised and not errors:
            self.raise_cell_error(
                "The cell promised an exception (raises-exception) and raised none"
            )
        if self.options["check"]:
            self.compare(tags)

    def compare(self, tags: list[str]) -> None:
        """Compare text with nbval's comparator, then pictures with ours."""
        reference, fresh = joined(self.cell.outputs), joined(self.fresh.outputs)
        tolerance = next((tag for tag in tags if re.fullmatch(r"tolerance-[\d.]+", tag)), None)
        if tolerance:
            fresh = snap_outputs(fresh, reference, float(tolerance.removeprefix("tolerance-")))
        if not self.compare_outputs(fresh, reference):
            self.raise_cell_error("Cell outputs differ", "\n".join(self.comparison_traceback))
        limit = TRAINED_FIGURE_RMS if "tolerance-figure" in tags else FIGURE_RMS
        old, new = pictures(reference), pictures(fresh)
        if len(old) != len(new):
            self.raise_cell_error(f"The reference has {len(old)} pictures, the run {len(new)}")
        for number, (before, after) in enumerate(zip(old, new, strict=True), 1):
            difference = picture_difference(before, after)
            if difference > limit:
                self.raise_cell_error(
                    f"Picture {number} differs: root mean square {difference:.1f} of 255, "
                    f"allowed {limit:g}. See both: make accept writes _build/accept.html"
                )


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, what was printed in several pieces in one.

    nbval adds the later pieces to the first one itself, and a second call would add them again.
    """
    return coalesce_streams(copy.deepcopy(outputs))


def snap_outputs(
    fresh: list[NotebookNode], reference: list[NotebookNode], tolerance: float
) -> list[NotebookNode]:
    """The fresh outputs, with each decimal within the tolerance written as the reference has it."""
    snapped = []
    for new, old in zip(fresh, reference, strict=False):
        new = NotebookNode(new)
        if new.output_type == "stream" and old.output_type == "stream":
            new["text"] = snap(new.text, old.text, tolerance)
        elif "data" in new and "data" in old:
            new["data"] = {
                mime: snap(value, old.data[mime], tolerance)
                if mime.startswith("text/") and mime in old.data
                else value
                for mime, value in new.data.items()
            }
        snapped.append(new)
    return snapped + fresh[len(reference) :]


def snap(fresh: str, reference: str, tolerance: float) -> str:
    """Write the reference's decimals over those of ``fresh`` that lie within the tolerance."""
    expected = iter(DECIMAL.findall(reference))

    def choose(match: re.Match) -> str:
        old = next(expected, match[0])
        return old if abs(float(old) - float(match[0])) <= tolerance + 1e-9 else match[0]

    return DECIMAL.sub(choose, fresh)


def pictures(outputs: list[NotebookNode]) -> list[np.ndarray]:
    """The PNG pictures of a cell, decoded to RGB."""
    encoded = [
        output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), dtype=float)
        for text in encoded
    ]


def picture_difference(before: np.ndarray, after: np.ndarray) -> float:
    """Root mean square difference, 0 to 255; infinite when the sizes differ by more than 2 pixels.

    Two pixels: other fonts' rounding can move the edge of a tightly cropped figure by one or two.
    """
    if max(abs(a - b) for a, b in zip(before.shape, after.shape, strict=True)) > 2:
        return float("inf")
    height, width, _ = np.minimum(before.shape, after.shape)
    return float(np.sqrt(np.mean((before[:height, :width] - after[:height, :width]) ** 2)))
