"""python -m book.experiments.page: write the page that shows the recorded results.

It reads book/results and benchmarks/results, fills in measured.template.md beside this file, and
writes book/measured.md with its pictures, book/images/measured_*.png. Each function below gives the
template what one section needs, and asserts what that section claims. tests/test_measured.py writes
the page again and compares: it cannot go stale.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from string import Template

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnetlib import plots

ROOT = Path(__file__).resolve().parents[2]
LABELS = {
    "lenet_mini": "LeNet",
    "alexnet_mini": "AlexNet",
    "vgg_mini": "VGG",
    "googlenet_mini": "GoogLeNet",
    "plain_mini": "plain",
    "resnet_mini": "ResNet",
    "preact_resnet_mini": "pre-activation ResNet",
    "xception_mini": "Xception",
    "se_resnet_mini": "SE-ResNet",
}


def write(folder: Path) -> None:
    """Write measured.md and its pictures into a folder."""
    plots.use_style()
    values = step() | trained_weights()
    for section in (speed, lineage, degradation, gradients, ablations, training_size):
        values |= section(folder)
    template = Template(Path(__file__).with_name("measured.template.md").read_text("utf-8"))
    if unused := values.keys() - set(template.get_identifiers()):
        raise ValueError(f"measured.template.md does not use {', '.join(sorted(unused))}")
    (folder / "measured.md").write_text(template.substitute(values), "utf-8")


def read(*path: str) -> dict:
    """Return a file of results."""
    return json.loads(ROOT.joinpath(*path).read_text("utf-8"))


def results(experiment: str) -> dict:
    """Return a recorded experiment."""
    return read("book", "results", f"{experiment}.json")


def benchmark(name: str) -> dict:
    """Return what a benchmark wrote."""
    return read("benchmarks", "results", f"{name}.json")


def select(runs: Iterable[dict], **wanted: object) -> list[dict]:
    """Return the runs with these values; there must be one."""
    chosen = [run for run in runs if all(run[key] == value for key, value in wanted.items())]
    if not chosen:
        raise ValueError(f"no recorded run has {wanted}")
    return chosen


def last(runs: Sequence[dict], measure: str = "test") -> list[float]:
    """Return the accuracy, 0 to 1, of each run after its last epoch, in the order of the runs."""
    return [1 - run["history"][f"{measure}_error"][-1] for run in runs]


def median(runs: Sequence[dict], key: str) -> float:
    """Return the median of one value of the runs."""
    return statistics.median(run[key] for run in runs)


def lead(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the values less that of the others."""
    return statistics.median(values) - statistics.median(others)


def alike(values: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether the medians differ by less than the values do among themselves."""
    return abs(lead(values, others)) < max(values) - min(values)


def percent(value: float) -> str:
    """Write a share of 1 in percent, with one decimal."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def spread(values: Sequence[float]) -> str:
    """Write the median in percent, the smallest and the largest value; of one value, itself."""
    if len(values) == 1:
        return percent(values[0])
    worst, best = (100 * end(values) for end in (min, max))
    return tight(f"{percent(statistics.median(values))} ({worst:.1f} to {best:.1f})")


def tight(text: str) -> str:
    """Keep a cell of a table on one line: on a phone it would make its row tall."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def table(*rows: Sequence[object]) -> str:
    """Write rows, the first the header, as Markdown; the first column is left, the others right."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (rows[0], rule, *rows[1:]))


def axes(
    xlabel: str, ylabel: str, columns: int = 1, height: float = 4
) -> tuple[Figure, list[Axes]]:
    """Return a new figure and its Axes, side by side with one vertical scale."""
    drawing, row = plt.subplots(1, columns, sharey=True, squeeze=False, figsize=(7, height))
    for ax in row[0]:
        ax.set(xlabel=xlabel)
        ax.grid(True)
    row[0][0].set(ylabel=ylabel)
    return drawing, list(row[0])


def picture(drawing: Figure, name: str, folder: Path, alt: str) -> str:
    """Save a drawing to images/measured_NAME.png; return the Markdown that shows it.

    alt: states the finding, for a reader who does not see the picture.
    """
    path = folder / "images" / f"measured_{name}.png"
    path.parent.mkdir(exist_ok=True)
    drawing.savefig(path)
    plt.close(drawing)
    return f"```{{image}} images/{path.name}\n:alt: {' '.join(alt.split())}\n```"


def how(command: str, *paragraphs: str) -> str:
    """Return the folded box that says how the runs were made."""
    text = "\n\n".join([f"`{command}`", *paragraphs])
    return f"```{{dropdown}} How it was run\n{text}\n```"


def how_recorded(recorded: dict) -> str:
    """Return that box for a recorded experiment."""
    runs = recorded["runs"]
    hours = sum(run["seconds"] for run in runs) / 3600
    hardware = sorted({run["hardware"] for run in runs})
    versions = {item for run in runs for item in run["versions"].items()}
    return how(
        f"python -m book.experiments {recorded['experiment']}",
        recorded["protocol"],
        f"{len(runs)} trainings, {hours:.1f} hours in all, on {' and '.join(hardware)}; "
        f"{', '.join(' '.join(item) for item in sorted(versions))}.",
    )


def speed(folder: Path) -> dict[str, str]:
    """Say how soon a laptop reaches an accuracy."""
    recorded = benchmark("time_to_accuracy")
    ours = dict(recorded["runs"])
    clothes = ours.pop("chapter4")
    theirs = [epoch["accuracy"] for epoch in clothes["epochs"]]
    drawing, (ax,) = axes(
        "epochs of chapter 4's clothes network (each line: twice as long)",
        "test accuracy, %",
    )
    epochs = range(1, len(theirs) + 1)
    ax.plot(epochs, [100 * value for value in theirs], "o-", label="clothes network")
    rows = [("wanted", "reached", "seconds", "epochs of the clothes network")]
    times = {}
    for marker, (target, runs) in zip("sD^v", sorted(ours.items()), strict=False):
        reached = [run["accuracy"] for run in runs]
        assert statistics.median(reached) >= float(target)
        ratios = [run["seconds"] / run["chapter4_epoch"] for run in runs]
        times[target] = statistics.median(ratios)
        label = f"ours, {recorded['parts'][target]['epochs']} epochs"
        ax.plot(ratios, [100 * value for value in reached], marker, label=label)
        seconds = f"{median(runs, 'seconds'):.0f}"
        least_and_most = f"{times[target]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append((percent(float(target)), spread(reached), seconds, tight(least_and_most)))
    ax.set(xscale="log", xticks=[0.25, 0.5, 1, 2, 4, 8])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.minorticks_off()
    ax.legend()
    quickest, best = (median(ours[target], "accuracy") for target in ("0.907", "0.93"))
    assert quickest > max(theirs)
    assert 0.3 < times["0.907"] < 0.37  # "a third"
    alt = f"""The clothes network of chapter 4 climbs from {percent(theirs[0])} after one epoch to
        at most {percent(max(theirs))} in {len(theirs)}. Our small residual networks reach
        {percent(quickest)} in a third of the time of its first epoch, and {percent(best)} in
        {times["0.93"]:.1f} times that of an epoch."""
    (parameters,) = {run["parameters"] for runs in ours.values() for run in runs}
    return {
        "clothes_parameters": f"{clothes['parameters'] / 1e6:.1f}",
        "speed_parameters": f"{parameters:,}",
        "speed_epochs": str(len(theirs)),
        "speed_theirs": percent(max(theirs)),
        "speed_ours": percent(quickest),
        "speed_picture": picture(drawing, "speed", folder, alt),
        "speed_table": table(*rows),
        "speed_how": how(
            "python benchmarks/time_to_accuracy.py",
            "60,000 training images, 10,000 test images; the clothes network trains on 48,000 of "
            f"them, as in chapter 4. {recorded['hardware']['cores']} cores of "
            f"{recorded['hardware']['processor']}. The seconds are those of training alone.",
        ),
    }


def step() -> dict[str, str]:
    """Say where the time of a training step goes."""
    recorded = benchmark("training_step")["oneDNN"]
    seconds, alone = recorded["step_seconds"], recorded["layers_alone_seconds"]
    rates, hardware, versions = (
        recorded[key] for key in ("gigamacs_per_second", "hardware", "versions")
    )
    shown = {kind: alone[kind] for kind in ("Conv2D", "BatchNormalization", "ReLU")}
    assert 0.3 < shown["Conv2D"] / seconds < 0.7  # not "nearly all"
    assert recorded["share"]["median"] < 0.5
    rows = {f"`{kind}`": value for kind, value in shown.items()}
    rows["the rest of the step"] = seconds - sum(shown.values())
    return {
        "step_peak": f"{rates['matrix product']:.0f}",
        "step_batch": str(recorded["setting"]["batch"]),
        "step_macs": f"{rates['training step'] * seconds:.1f}",
        "step_seconds": f"{seconds:.2f}",
        "step_table": table(
            ("layers, timed alone", "seconds", "share of the step"),
            *((kind, f"{value:.3f}", percent(value / seconds)) for kind, value in rows.items()),
        ),
        "step_how": how(
            "python benchmarks/training_step.py",
            f"{hardware['cores']} cores of {hardware['processor']}, float32; TensorFlow "
            f"{versions['tensorflow']}, Keras {versions['keras']}.",
        ),
    }


def lineage(folder: Path) -> dict[str, str]:
    """Say what each family's small network reaches in the same three epochs."""
    recorded = results("lineage")
    families = {name: select(recorded["runs"], network=name) for name in LABELS}
    accuracy = {name: statistics.median(last(runs)) for name, runs in families.items()}
    drawing, (ax,) = axes("seconds of training on one core", "test accuracy, %", height=4.6)
    rows = [("network", "parameters", "seconds", "test accuracy")]
    for name in sorted(families, key=accuracy.get, reverse=True):
        runs = families[name]
        seconds, reached = median(runs, "seconds"), [100 * value for value in last(runs)]
        ax.plot([seconds] * 2, [min(reached), max(reached)], "-", color="0.5", zorder=1)
        ax.plot(seconds, 100 * accuracy[name], "o", color="C0")
        # Where there is room for its label.
        place = {
            "preact_resnet_mini": (0, 10),
            "plain_mini": (-24, -4),
            "resnet_mini": (0, 12),
            "se_resnet_mini": (-38, -7),
        }
        ax.annotate(
            LABELS[name],
            (seconds, 100 * accuracy[name]),
            textcoords="offset points",
            xytext=place.get(name, (8, -4)),
            ha="center" if name in place else "left",
            fontsize=10,
        )
        parameters = f"{runs[0]['parameters']:,}"
        rows.append((f"`{name}`", parameters, f"{seconds:.0f}", spread(last(runs))))
    ax.margins(0.15)
    plain, lenet, alexnet = (families[f"{name}_mini"] for name in ("plain", "lenet", "alexnet"))
    ratios = {key: median(plain, key) / median(lenet, key) for key in ("parameters", "seconds")}
    assert 3 * max(run["seconds"] for run in lenet) < min(run["seconds"] for run in alexnet)
    assert min(last(lenet)) > max(last(alexnet))
    assert min(accuracy, key=accuracy.get) == "alexnet_mini"
    best = {"plain_mini", "resnet_mini", "preact_resnet_mini"}
    assert {*sorted(accuracy, key=accuracy.get)[-3:]} == best
    assert {run["epochs"] for run in recorded["runs"]} == {3}
    assert alike(last(plain), last(families["resnet_mini"]))
    assert ratios["seconds"] > 2 * ratios["parameters"]
    # The same network, but for the first value of its gammas, trained on the day of the others.
    before = select(results("ablations")["runs"], network="resnet_mini", option="A")
    slower = median(families["resnet_mini"], "seconds") / median(before, "seconds")
    assert slower > 1.2
    alt = f"""Test accuracy over training time for nine small networks. LeNet is quickest and has
        {percent(accuracy["lenet_mini"])}; AlexNet is lowest with
        {percent(accuracy["alexnet_mini"])}; the plain network, the ResNet and the pre-activation
        ResNet are highest with about {percent(accuracy["plain_mini"])}."""
    return {
        "lineage_picture": picture(drawing, "lineage", folder, alt),
        "lineage_table": table(*rows),
        "lineage_parameters": f"{plain[0]['parameters']:,}",
        "lineage_parameter_ratio": f"{ratios['parameters']:.1f}",
        "lineage_time_ratio": f"{ratios['seconds']:.1f}",
        "lineage_slower": f"{slower:.1f}",
        "lineage_how": how_recorded(recorded),
    }


def degradation(folder: Path) -> dict[str, str]:
    """Say how plain and residual networks of 20 and 56 layers train."""
    recorded = results("degradation")
    kinds = {"plain": "plain", "resnet": "with shortcuts"}
    measures = {"train": "training", "test": "test"}
    drawing, panels = axes("epoch", "error, %", columns=2)
    final = {}
    for ax, (kind, title) in zip(panels, kinds.items(), strict=True):
        ax.set(title=title, ylim=(0, 90))
        for depth, colour, epoch, above in ((20, "C0", 20, -7), (56, "C1", 12, 6)):
            (run,) = select(recorded["runs"], network=f"{kind}{depth}", seed=0)
            for (measure, word), style in zip(measures.items(), "-:", strict=True):
                errors = run["history"][f"{measure}_error"]
                final[kind, depth, measure] = errors[-1]
                label = word if depth == 20 else None
                ax.plot(
                    range(1, len(errors) + 1), [100 * error for error in errors], style,
                    color=colour, label=label,
                )  # fmt: skip
            height = 100 * run["history"]["train_error"][epoch] + above
            ax.text(epoch, height, f"{depth} layers", color=colour, fontsize=11)
    panels[1].legend()
    rows = [
        (f"{title}, {word} error", *(percent(final[kind, depth, measure]) for depth in (20, 56)))
        for kind, title in kinds.items()
        for measure, word in measures.items()
    ]
    plain, residual = ({depth: final[kind, depth, "train"] for depth in (20, 56)} for kind in kinds)
    assert plain[56] > 4 * max(plain[20], residual[56])
    assert residual[20] < residual[56]
    assert {len(run["history"]["train_error"]) for run in recorded["runs"]} == {30}
    alt = f"""Training and test error by epoch. Without shortcuts the network of 56 layers ends with
        {percent(plain[56])} training error, the one of 20 layers with {percent(plain[20])}. With
        shortcuts the two end with {percent(residual[56])} and {percent(residual[20])}."""
    return {
        "degradation_picture": picture(drawing, "degradation", folder, alt),
        "degradation_table": table(("", "20 layers", "56 layers"), *rows),
        "deep_plain": percent(plain[56]),
        "deep_residual": percent(residual[56]),
        "degradation_how": how_recorded(recorded),
    }


def gradients(folder: Path) -> dict[str, str]:
    """Say whether gradients vanish in the deep plain network."""
    runs = results("degradation")["runs"]
    drawing, panels = axes("layer, counted from the image", "norm of its kernel's gradient", 2)
    norms = {}
    for ax, name, title in zip(
        panels, ("plain56", "resnet56"), ("plain", "with shortcuts"), strict=True
    ):
        (run,) = select(runs, network=name, seed=0)
        norms[name] = {epoch: list(of.values()) for epoch, of in run["gradient_norms"].items()}
        for epoch in ("0", "1", "29"):
            layers = range(1, len(norms[name][epoch]) + 1)
            ax.plot(layers, norms[name][epoch], label=f"before epoch {int(epoch) + 1}")
        ax.set(title=title, yscale="log")
    panels[1].legend(fontsize=10)
    first, final = (norms["plain56"]["0"][at] for at in (0, -1))
    early, factors = (
        {name: max(of[epoch]) / min(of[epoch]) for name, of in norms.items()}
        for epoch in ("1", "29")
    )
    assert first > 100 * final
    assert max(norms["resnet56"]["0"]) / min(norms["resnet56"]["0"]) < first / final
    assert early["plain56"] < 1.5 * early["resnet56"]
    assert max(factors.values()) < 20
    alt = f"""The norm of each layer's gradient. Before the first epoch those of the plain network
        grow towards the image, from {final:.2g} in the last layer to {first:.0f} in the first;
        those of the network with shortcuts differ less. Before the last epoch all layers of both
        are within a factor of {max(factors.values()):.0f}."""
    return {
        "gradients_picture": picture(drawing, "gradients", folder, alt),
        "gradient_first": f"{first:.0f}",
        "gradient_last": f"{final:.2g}",
        "gradient_early_plain": f"{early['plain56']:.0f}",
        "gradient_early_residual": f"{early['resnet56']:.0f}",
        "gradient_factor_plain": f"{factors['plain56']:.0f}",
        "gradient_factor_residual": f"{factors['resnet56']:.0f}",
    }


def ablations(folder: Path) -> dict[str, str]:
    """Say what two small choices in a residual block matter."""
    recorded, base = results("ablations"), results("lineage")["runs"]
    zeros = partial(select, recorded["runs"], last_gamma="zeros")
    variants = {
        "no shortcut": select(base, network="plain_mini"),
        "A, γ starts at 1": select(base, network="resnet_mini"),
        "A, γ starts at 0": zeros(network="resnet_mini", option="A"),
        "B, γ starts at 0": zeros(network="resnet_mini", option="B"),
        "A with SE, γ starts at 1": select(base, network="se_resnet_mini"),
        "A with SE, γ starts at 0": zeros(network="se_resnet_mini"),
    }
    accuracies = {name: last(runs) for name, runs in variants.items()}
    drawing, (ax,) = axes("test accuracy, %", "", height=3.2)
    for place, reached in enumerate(accuracies.values()):
        ax.plot([100 * value for value in reached], [place] * len(reached), "o", color="C0")
        middle = 100 * statistics.median(reached)
        ax.plot(middle, place, "|", color="C1", markersize=18, markeredgewidth=3)
    ax.set_yticks(range(len(variants)), variants)
    ax.margins(y=0.15)
    ax.invert_yaxis()
    none, one, zero, projected, squeezed, squeezed_zero = accuracies.values()
    assert min(*none, *one, *projected) > max(zero)
    assert alike(projected, one)
    assert alike(squeezed, one)
    assert alike(none, one)
    assert statistics.median(squeezed_zero) > max(zero)
    alt = f"""Three trainings of each variant. Without shortcuts the network reaches {spread(none)}.
        With shortcuts of option A it reaches {spread(one)} if the last gamma starts at one, and
        {spread(zero)} if it starts at zero; with option B and zero {spread(projected)}. With
        squeeze-and-excitation and option A it is {spread(squeezed)} and
        {spread(squeezed_zero)}."""
    rows = ((name, spread(reached)) for name, reached in accuracies.items())
    cifar = results("cifar_by_fit")["runs"]
    (cifar_zero,) = select(cifar, network="resnet20", last_gamma="zeros")
    (cifar_squeezed,) = select(cifar, network="se_resnet20", last_gamma="zeros")
    dead, channels = cifar_zero["dead_channels"]["conv4"]
    assert (dead, channels) == (48, 64)  # "uses a quarter of them"
    assert not any(dead for dead, _ in cifar_squeezed["dead_channels"].values())
    assert last([cifar_squeezed]) > last([cifar_zero])
    return {
        "ablations_picture": picture(drawing, "ablations", folder, alt),
        "ablations_table": table(("`resnet_mini`, its shortcut", "test accuracy"), *rows),
        "ablations_cost": f"{100 * lead(one, zero):.1f}",
        "ablations_dead": str(dead),
        "ablations_channels": str(channels),
        "ablations_cifar": spread(last([cifar_zero])),
        "ablations_cifar_squeezed": spread(last([cifar_squeezed])),
        "squeeze_gain": f"{100 * abs(lead(squeezed, one)):.1f}",
        "ablations_how": how_recorded(recorded),
    }


def training_size(folder: Path) -> dict[str, str]:
    """Say what more training images buy."""
    recorded = results("training_size")
    all_of_them = select(results("ablations")["runs"], network="resnet_mini", option="A")
    runs = [*recorded["runs"], *all_of_them]
    sizes = sorted({run["images"] for run in runs} - {0})
    by_size = {size: select(runs, images=size) for size in sizes} | {60_000: all_of_them}
    train, test = (
        {size: [1 - value for value in last(of, measure)] for size, of in by_size.items()}
        for measure in ("train", "test")
    )
    drawing, (ax,) = axes("different training images", "error, %")
    for errors, style, label in ((train, "o-", "training"), (test, "s--", "test")):
        middle = [100 * statistics.median(values) for values in errors.values()]
        (line,) = ax.plot([*errors], middle, style, label=label)
        for size, values in errors.items():
            ax.plot([size] * 2, [100 * min(values), 100 * max(values)], color=line.get_color())
    ax.set(xscale="log", ylim=(0, None))
    ax.set_xticks([*by_size], [f"{size:,}" for size in by_size])
    ax.xaxis.minorticks_off()
    ax.legend()
    by_heart = max(size for size, errors in train.items() if not any(errors))
    shown, new = ([statistics.median(of) for of in errors.values()] for errors in (train, test))
    gaps = [unseen - seen for seen, unseen in zip(shown, new, strict=True)]
    assert not any(error for size in by_size if size <= by_heart for error in train[size])
    assert {len(test[size]) for size in sizes} == {1}
    assert all(min(few) > max(more) for few, more in pairwise(test.values()))
    assert gaps == sorted(gaps, reverse=True)
    alt = f"""Test error falls from {percent(new[0])} with {sizes[0]:,} different images to
        {percent(new[-1])} with 60,000; training error rises from 0 to {percent(shown[-1])}."""
    rows = ((f"{size:,}", spread(train[size]), spread(test[size])) for size in by_size)
    return {
        "training_size_picture": picture(drawing, "training_size", folder, alt),
        "training_size_table": table(("different images", "training error", "test error"), *rows),
        "learned_by_heart": f"{by_heart:,}",
        "learned_by_heart_error": percent(statistics.median(test[by_heart])),
        "last_gap": f"{100 * gaps[-1]:.1f}",
        "last_doubling": f"{100 * (new[-2] - new[-1]):.1f}",
        "training_size_how": how_recorded(recorded),
    }


def trained_weights() -> dict[str, str]:
    """Say which trained networks travel with the library."""
    rows = []
    for card in read("resnetlib", "_data", "weights", "cards.json").values():
        others = ", ".join(map(percent, card["test_accuracy_of_other_seeds"]))
        arguments = f'`"{card["network"]}", weights="{card["dataset"]}"`'
        rows.append((arguments, percent(card["test_accuracy"]), others))
    return {"weights_table": table(("arguments", "test accuracy", "of other seeds"), *rows)}


if __name__ == "__main__":
    write(ROOT / "book")
