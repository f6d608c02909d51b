"""The README's headline numbers are those of the recorded results and benchmarks."""

import json
import statistics

from book.press.chapters import ROOT


def read(*path):
    return json.loads(ROOT.joinpath(*path).read_text())


def last(results, network, measure):
    """The median over the seeds of a network's last epoch."""
    runs = [run for run in read("book", "results", results)["runs"] if run["network"] == network]
    return statistics.median(run["history"][measure][-1] for run in runs)


def rows():
    models = read("benchmarks", "results", "models.json")["models"]
    for name, label in (("vgg16", "VGG-16"), ("resnet50", "ResNet-50"), ("xception", "Xception")):
        step = models[name]["training step"]
        ours, control = (step[side]["median"] for side in ("ratio", "control"))
        values = f"{ours:.2f} (a second copy of theirs: {control:.2f})"
        yield f"| {label}'s training step, our time by that of `keras.applications` | {values} |"
    trained = read("benchmarks", "results", "time_to_accuracy.json")["runs"]
    for runs in (trained[name] for name in ("0.907", "0.92", "0.93", "0.94")):
        ratio = statistics.median(run["seconds"] / run["chapter4_epoch"] for run in runs)
        accuracy = statistics.median(run["accuracy"] for run in runs)
        what = f"Fashion-MNIST to {accuracy:.1%}, by the time of one epoch of chapter 4's network"
        yield f"| {what} | {ratio:.2f} |"
    line = read("benchmarks", "results", "line.json")["seconds"]
    clean, nothing = (line[step]["median"] for step in ("clean", "no-op"))
    yield f"| the book from nothing: every chapter runs, every page is built | {clean:.0f} s |"
    yield f"| the book when nothing changed | {nothing:.1f} s |"
    plain, residual = (
        last("degradation.json", name, "train_error") for name in ("plain56", "resnet56")
    )
    yield f"| training error on CIFAR-10 with 56 layers, plain | {plain:.1%} |"
    yield f"| the same 56 layers with shortcuts | {residual:.1%} |"
    card = read("resnetlib", "_data", "weights", "cards.json")["resnet20-cifar10"]
    yield f"| test accuracy of the ResNet-20 in the package | {card['test_accuracy']:.1%} |"


def test_the_readme_gives_the_recorded_numbers():
    text = (ROOT / "README.md").read_text()
    table = text.split("## Measured")[1].split("## ")[0]
    assert [line for line in table.splitlines() if line.startswith("| ")][1:] == [*rows()]
