"""python -m book.experiments NAME [RUN ...]: run an experiment, or some of its runs.

Each finished run is kept in _build/experiments/NAME; `--collect` adds them to
book/results/NAME.json, and what stands there is not run again. A run that was cut off goes on from
its last kept epoch.

A run of `fit` has a process of its own, which ends with it: its peak memory is its own. A second
core helps a small network little, so two shares at once, each on a core of its own, take less time:
    taskset -c 0 python -m book.experiments NAME --share 1/2
    taskset -c 1 python -m book.experiments NAME --share 2/2
"""

import argparse
import json
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

from book.experiments.plans import FIT, PLANS, Plan, Run

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Train what is missing, or collect what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("runs", nargs="*", help="regular expressions; all runs without one")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "experiments")
    parser.add_argument("--share", default="1/1", help="2/3 for every third run from the second")
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    plan, folder = PLANS[given.name], given.folder / given.name
    chosen = [
        run
        for run in plan.runs
        if not given.runs or any(re.fullmatch(pattern, run.name) for pattern in given.runs)
    ]
    share = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", given.share)
    if not share or int(share[1]) > int(share[2]):
        parser.error(f"--share is such as 1/2 or 2/2; received {given.share}")
    chosen = chosen[int(share[1]) - 1 :: int(share[2])]
    if given.list:
        print(*(run.name for run in chosen), sep="\n")
        return
    keep_protocol(plan, folder)
    if given.collect:
        collect(given.name, plan, folder)
    else:
        done = recorded(given.name, plan)
        run_all([run for run in chosen if run not in done], folder)


def keep_protocol(plan: Plan, folder: Path) -> None:
    """Write the plan's protocol into the folder; refuse one whose runs followed another."""
    note = folder / "protocol.txt"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(plan.protocol)
    elif note.read_text() != plan.protocol:
        raise SystemExit(
            f"{folder} holds runs of another protocol; delete it, or name another --folder"
        )


def run_all(runs: list[Run], folder: Path) -> None:
    """Train what is missing, and say how long the rest will take."""
    # TensorFlow reads it at its import; oneDNN is on by default only on newer processors.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    missing = [run for run in runs if not run.record(folder)]
    start = time.perf_counter()
    for number, run in enumerate(missing, start=1):
        if run.recipe == FIT:
            from book.experiments import laptop

            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                record = process.submit(laptop.train, run, folder).result()
        else:
            from book.experiments import engine

            record = engine.train(run, folder)
        left = (time.perf_counter() - start) / number * (len(missing) - number)
        print(
            f"{number}/{len(missing)} {run.name}: test error {record['history']['test_error'][-1]} "
            f"in {record['seconds']:.0f} s, about {left / 60:.0f} min left",
            flush=True,
        )


def collect(name: str, plan: Plan, folder: Path) -> None:
    """Write the finished runs, and those recorded before, into one file."""
    records = recorded(name, plan)
    for run in plan.runs:
        if record := run.record(folder):
            records[run] = record
    missing = [run.name for run in plan.runs if run not in records]
    if missing:
        print(f"{name}: {len(missing)} runs are missing: {', '.join(missing)}")
    target = ROOT / "book" / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    result = {"experiment": name, "question": plan.question, "protocol": plan.protocol}
    runs = [records[run] for run in plan.runs if run in records]
    target.write_text(json.dumps({**result, "runs": runs}, indent=1) + "\n")
    print(f"{target.relative_to(ROOT)}: {len(runs)} runs")


def recorded(name: str, plan: Plan) -> dict[Run, dict]:
    """Return the runs that book/results has, unless the plan's protocol is another by now."""
    target = ROOT / "book" / "results" / f"{name}.json"
    if not target.exists():
        return {}
    results = json.loads(target.read_text())
    if results["protocol"] != plan.protocol:
        return {}
    names = {field.name for field in fields(Run)}
    runs = {}
    for record in results["runs"]:
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        runs[Run(**{key: values[key] for key in names})] = record
    return {run: record for run, record in runs.items() if run in plan.runs}


if __name__ == "__main__":
    main()
