"""python -m book.experiments NAME [RUN ...]: run an experiment, or some of its runs.

Each finished run is kept in _build/experiments/NAME; `--collect` puts them together into
book/results/NAME.json. A run that was cut off goes on from its last tenth epoch.
"""

import argparse
import json
import re
from pathlib import Path

from book.experiments.plans import PLANS

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Train what is missing, or collect what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("runs", nargs="*", help="regular expressions; all runs without one")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "experiments")
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    plan, folder = PLANS[given.name], given.folder / given.name
    chosen = [
        run
        for run in plan.runs
        if not given.runs or any(re.fullmatch(pattern, run.name) for pattern in given.runs)
    ]
    if given.list:
        print(*(run.name for run in chosen), sep="\n")
    elif given.collect:
        collect(given.name, plan, folder)
    else:
        from book.experiments.engine import train

        for run in chosen:
            train(run, folder)


def collect(name: str, plan, folder: Path) -> None:  # noqa: ANN001
    """Write the results of an experiment's finished runs into one file."""
    records = [folder / f"{run.name}.json" for run in plan.runs]
    missing = [path.stem for path in records if not path.exists()]
    if missing:
        print(f"{name}: {len(missing)} runs are missing: {', '.join(missing)}")
    found = [json.loads(path.read_text()) for path in records if path.exists()]
    target = ROOT / "book" / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    result = {"experiment": name, "question": plan.question, "protocol": plan.protocol}
    target.write_text(json.dumps({**result, "runs": found}, indent=1) + "\n")
    print(f"{target.relative_to(ROOT)}: {len(found)} runs")


if __name__ == "__main__":
    main()
