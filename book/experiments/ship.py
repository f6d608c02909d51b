"""python -m book.experiments.ship: put trained weights and their cards into the package.

The first seed of each network is shipped, not the best one. Weights whose run is not in
_build/experiments stay as they are.
"""

import hashlib
import json
import shutil

from book.experiments.__main__ import ROOT
from book.experiments.plans import PLANS

SHIPPED = ("cifar_resnets", "lineage")
ONLY = {"cifar_resnets": ("resnet20", "se_resnet20"), "lineage": None}
FOLDER = ROOT / "resnetlib" / "_data" / "weights"


def main() -> None:
    """Copy the arrays and write the cards, for the runs that are there."""
    cards = json.loads((FOLDER / "cards.json").read_text())
    for experiment in SHIPPED:
        source = ROOT / "_build" / "experiments" / experiment
        records = [source / f"{run.name}.json" for run in PLANS[experiment].runs]
        records = [
            json.loads(path.read_text()) | {"path": path} for path in records if path.exists()
        ]
        for record in records:
            network, dataset = record["network"], record["dataset"]
            if record["seed"] or (ONLY[experiment] and network not in ONLY[experiment]):
                continue
            name = f"{network}-{dataset}"
            shutil.copyfile(record["path"].with_suffix(".npz"), FOLDER / f"{name}.npz")
            twins = [r for r in records if r["network"] == network]
            accuracies = {r["seed"]: round(1 - r["history"]["test_error"][-1], 4) for r in twins}
            cards[name] = {
                "network": network,
                "dataset": dataset,
                "recipe": record["recipe"],
                "protocol": PLANS[experiment].protocol,
                "epochs": record["epochs"],
                "seed": 0,
                "test_accuracy": accuracies.pop(0),
                "test_accuracy_of_other_seeds": list(accuracies.values()),
                "test_images": 10_000,
                "hardware": record["hardware"],
                "commit": record["commit"],
                "sha256": hashlib.sha256((FOLDER / f"{name}.npz").read_bytes()).hexdigest(),
            }
    (FOLDER / "cards.json").write_text(json.dumps(cards, indent=1) + "\n")
    print(*(f"{name}: {card['test_accuracy']}" for name, card in cards.items()), sep="\n")


if __name__ == "__main__":
    main()
