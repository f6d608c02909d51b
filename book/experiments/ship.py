"""python -m book.experiments.ship: put trained weights and their cards into the package.

The first seed of each network in book/results is shipped, not the best one. Weights whose run is
not in _build/experiments stay as they are; their cards learn of new seeds.
"""

import hashlib
import json
import re
import shutil
from dataclasses import replace

from book.experiments.__main__ import ROOT, recorded
from book.experiments.plans import PLANS
from book.experiments.shared import SIZES

# Of each experiment the runs that are shipped, as a regular expression for their names.
SHIPPED = {
    "cifar_in_bfloat16": "resnet20-.*-seed0",
    "cifar_by_fit": "se_resnet20-zeros-border2-fit-seed0",
    "lineage": ".*-seed0",
}
FOLDER = ROOT / "resnetlib" / "_data" / "weights"


def main() -> None:
    """Copy the arrays of new runs, and write the cards of all."""
    cards = {}
    for experiment, pattern in SHIPPED.items():
        runs = recorded(experiment, PLANS[experiment])
        for run, record in runs.items():
            if not re.fullmatch(pattern, run.name):
                continue
            name = f"{run.network}-{run.dataset}"
            folder = ROOT / "_build" / "experiments" / experiment
            if run.record(folder) == record:
                shutil.copyfile(folder / f"{run.name}.npz", FOLDER / f"{name}.npz")
            else:
                print(f"{name}: its run is not in {folder.relative_to(ROOT)}, the weights stay")
            accuracies = [
                round(1 - twin["history"]["test_error"][-1], 4)
                for other, twin in runs.items()
                if replace(other, seed=0) == run
            ]
            cards[name] = {
                "network": run.network,
                "dataset": run.dataset,
                "recipe": run.recipe,
                "border": run.border,
                "policy": run.policy,
                "last_gamma": run.last_gamma,
                "protocol": PLANS[experiment].protocol,
                "epochs": run.epochs,
                "seed": run.seed,
                "test_accuracy": accuracies[0],
                "test_accuracy_of_other_seeds": accuracies[1:],
                "test_images": SIZES[run.dataset][1],
                "hardware": record["hardware"],
                "commit": record["commit"],
                "sha256": hashlib.sha256((FOLDER / f"{name}.npz").read_bytes()).hexdigest(),
            }
    (FOLDER / "cards.json").write_text(json.dumps(cards, indent=1) + "\n")
    print(*(f"{name}: {card['test_accuracy']}" for name, card in cards.items()), sep="\n")


if __name__ == "__main__":
    main()
