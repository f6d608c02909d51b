"""Run the chapters: papermill, one process a chapter, as many at once as the machine has cores.

``python -m book.press.execute SOURCE TARGET PARAMETERS`` is the child that runs one chapter; the
rest of this module is the parent, which decides, starts the children and shows how far they are.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat

from book.press import chapters
from book.press.chapters import Chapter

CELL_SECONDS = {"quick": 300, "full": 24 * 3600}
# What a chapter's process says when its kernel did not start. Two kernels that start at once can
# draw the same free port, and one of them is too late; the next draw is another.
PORT_TAKEN = "Kernel died before replying to kernel_info"


class ChapterFailed(Exception):
    """A chapter raised, ran out of time, or its process died."""


# --- the child ---------------------------------------------------------------------------------


def run_notebook(source: str, target: str, parameters: dict, cell_seconds: int) -> None:
    """Execute one notebook with papermill, printing a line for each cell that is done."""
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class CountingEngine(NBClientEngine):
        """Papermill's engine, which also says how far it is and lets promised exceptions pass."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):  # noqa: ANN001, ANN003, ANN206
            complete, total = nb_man.cell_complete, len(nb_man.nb.cells)

            def cell_complete(cell, cell_index=None, **more):  # noqa: ANN001, ANN003, ANN202
                complete(cell, cell_index=cell_index, **more)
                print(f"cell {cell_index + 1}/{total}", flush=True)

            nb_man.cell_complete = cell_complete
            # papermill saves before and after each cell; once at the end is enough, and it does so
            # after a failure and a time-out too.
            target, nb_man.output_path = nb_man.output_path, None
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **options)
            finally:
                nb_man.output_path = target
            # papermill takes every error output for a failure. Those that a cell promises with the
            # tag raises-exception are the lesson: put them aside until it has looked.
            for cell in nb_man.nb.cells:
                if "raises-exception" in cell.metadata.get("tags", []):
                    cell.metadata["promised"], cell.outputs = cell.outputs, []

    papermill_engines.register("counting", CountingEngine)
    papermill.execute_notebook(
        source,
        target,
        parameters=parameters,
        engine_name="counting",
        kernel_name="python3",
        progress_bar=False,
        execution_timeout=cell_seconds,
        # On a busy machine an output can come late; without these it is dropped after 4 seconds.
        iopub_timeout=60,
        raise_on_iopub_timeout=True,
        cwd=str(Path(source).parent),
    )
    notebook = chapters.read(target)
    for cell in notebook.cells:
        if "promised" in cell.metadata:
            cell.outputs = cell.metadata.pop("promised")
    nbformat.write(notebook, target)


# --- the parent --------------------------------------------------------------------------------


def child_environment(workers: int) -> dict[str, str]:
    """The variables of a child: its share of the cores, and no chatter in the outputs.

    TensorFlow's C++ part writes to the file descriptor of stderr whatever its log level is. A
    kernel that only captures Python's own streams keeps those lines, with their clock times, out.
    """
    ipython = chapters.ROOT / "_build" / "ipython"
    kernel_config = ipython / "profile_default" / "ipython_kernel_config.py"
    kernel_config.parent.mkdir(parents=True, exist_ok=True)
    kernel_config.write_text("c.IPKernelApp.capture_fd_output = False\n")
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))
    return os.environ | {
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "IPYTHONDIR": str(ipython),
        "RESNETLIB_PROGRESS": "0",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(chapters.ROOT),
    }


def side_by_side() -> tuple[list[str], dict[str, str]]:
    """Return the options and the variables with which pytest runs tests in two processes.

    Not in more: by the end of the full set one can hold 5 GB, since JAX keeps what it compiled.
    """
    workers = min(os.cpu_count() or 1, 2)
    # A process that is done takes over what another has not begun. Neighbours stay together, so
    # that what a module builds once is built once or twice, not for every test.
    return ["-n", str(workers), "--dist", "worksteal"], child_environment(workers)


def run_chapter(
    chapter: Chapter, profile: str, workers: int, progress: Callable[[str], None]
) -> float:
    """Run one chapter and put the result in place by a rename; the seconds it took."""
    made_from = chapters.recipe(chapter, profile)
    for path in (chapter.executed, chapter.failed):
        path.parent.mkdir(parents=True, exist_ok=True)
    chapter.failed.unlink(missing_ok=True)
    # A file of this process alone: nothing under executed/ is ever half done, and a child that
    # outlives a killed parent (until its next cell ends and it finds the pipe closed) harms nobody.
    running = chapter.failed.with_name(f"{chapter.name}-{os.getpid()}.running.ipynb")
    command = [
        sys.executable, "-m", "book.press.execute", str(chapter.source), str(running),
        json.dumps(chapters.parameters(chapter, profile)), str(CELL_SECONDS.get(profile, 3600)),
    ]  # fmt: skip
    start = time.monotonic()
    for _ in range(2):
        code, said, reached = run_child(command, chapter.root, workers, progress)
        if not code or PORT_TAKEN not in said:
            break
    seconds = time.monotonic() - start
    if code:
        if running.exists():
            os.replace(running, chapter.failed)
        how = f"(exit code {code}) {reached}:\n{said[-3000:]}"
        raise ChapterFailed(explain_failure(chapter, how))
    notebook = chapters.read(running)
    notebook.metadata["press"] = {"made_from": made_from, "seconds": round(seconds, 1)}
    nbformat.write(notebook, running)
    os.replace(running, chapter.executed)
    return seconds


def run_child(
    command: list[str], folder: Path, workers: int, progress: Callable[[str], None]
) -> tuple[int, str, str]:
    """Run the process of a chapter; its exit code, what it said, and how far it came."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=child_environment(workers),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, reached = [], "before its first cell ended"
    for line in process.stdout:
        if line.startswith("cell "):
            reached = f"after {line.strip()}"
            progress(line.strip())
        else:
            said.append(line)
    return process.wait(), "".join(said), reached


def explain_failure(chapter: Chapter, how: str) -> str:
    """Name the chapter and the cell, and show its source and traceback.

    how: what is known without the notebook, which a killed process does not leave.
    """
    head = f"{chapter.source.relative_to(chapter.root)} failed"
    try:
        notebook = chapters.read(chapter.failed)
    except (OSError, ValueError):
        return f"{head} {how}"
    cells = [
        cell
        for cell in notebook.cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    for index, cell in enumerate(cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                traceback = "\n".join(output.traceback)
                return f"{head} in cell {index} ({cell.id}):\n\n{cell.source}\n\n{traceback}"
    return f"{head} {how}"


def run(selected: list[Chapter], profile: str = "quick", workers: int | None = None) -> bool:
    """Run every chapter that is not up to date, and say why; False when one of them failed."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    waiting = []
    for chapter in selected:
        why = chapters.reasons(chapter, profile)
        verdict = f"[yellow]re-run[/], {'; '.join(why)}" if why else "[green]up to date[/]"
        console.print(f"{chapter.name}: {verdict}")
        if why:
            waiting.append(chapter)
    if not waiting:
        return True
    # Matplotlib's first import on a machine lists the fonts; a slow one would say so in an output.
    import matplotlib.font_manager  # noqa: F401

    workers = min(len(waiting), workers or os.cpu_count() or 1)
    failures, started = [], time.monotonic()
    with Board(console, len(waiting)) as board, ThreadPoolExecutor(workers) as pool:
        jobs = {
            pool.submit(run_chapter, chapter, profile, workers, board.row(chapter.name)): chapter
            for chapter in waiting
        }
        for left, job in zip(range(len(jobs) - 1, -1, -1), as_completed(jobs), strict=True):
            name, elapsed = jobs[job].name, time.monotonic() - started
            try:
                board.say(
                    f"{name}: done in {job.result():.0f} s ({left} left, {elapsed:.0f} s so far)"
                )
            except ChapterFailed as failure:
                failures.append(str(failure))
                board.say(f"[red]{name}: FAILED[/] ({left} left)")
    for failure in failures:
        print(f"\n{'─' * 80}\n{failure}", file=sys.stderr)
    return not failures


class Board:
    """The progress of the chapters: a bar for each on a terminal, a line now and then in a log."""

    def __init__(self, console, chapters_to_run: int) -> None:  # noqa: ANN001
        """Show the progress on this rich console."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} cells"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Board":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self.console.print(message)

    def row(self, name: str) -> Callable[[str], None]:
        """A function that takes a chapter's ``cell 3/20`` and shows it."""
        bar = self.bars.add_task(name, total=None, start=False)
        last = time.monotonic()

        def update(line: str) -> None:
            nonlocal last
            done, total = (int(part) for part in line.removeprefix("cell ").split("/"))
            if done == 1:
                self.bars.start_task(bar)
            self.bars.update(bar, completed=done, total=total, visible=done < total)
            if not self.console.is_terminal and time.monotonic() - last > 20:
                last = time.monotonic()
                self.console.print(f"{name}: {line}")

        return update


if __name__ == "__main__":
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        run_notebook(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
    except Exception as error:  # The parent shows the cell; here the kind of error is enough.
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(1)
