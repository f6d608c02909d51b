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
from resnetlib.models import MODELS

ROOT = Path(__file__).resolve().parents[2]
# He et al. 2015: table 6, in percent; section 4.2: 64,000 batches of 128 of the 50,000 images.
PAPER_RESNET20, PAPER_EPOCHS = 91.25, 164
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
    for section in (speed, lineage, degradation, gradients, ablations, cifar, training_size):
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


def how(*paragraphs: str) -> str:
    """Return the folded box that says how the runs were made."""
    text = "\n\n".join(paragraphs)
    return f"```{{dropdown}} How it was run\n{text}\n```"


def how_recorded(*experiments: dict) -> str:
    """Return that box for recorded experiments."""
    paragraphs = []
    for recorded in experiments:
        runs = recorded["runs"]
        hours = sum(run["seconds"] for run in runs) / 3600
        hardware = sorted({run["hardware"] for run in runs})
        versions = {item for run in runs for item in run["versions"].items()}
        paragraphs += [
            f"`python -m book.experiments {recorded['experiment']}`",
            recorded["protocol"],
            f"{len(runs)} trainings, {hours:.1f} hours in all, on {' and '.join(hardware)}; "
            f"{', '.join(' '.join(item) for item in sorted(versions))}.",
        ]
    return how(*paragraphs)


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
    times, macs, hardware = {}, {}, {}
    for marker, (target, runs) in zip("sD^v", sorted(ours.items()), strict=False):
        reached = [run["accuracy"] for run in runs]
        assert statistics.median(reached) >= float(target)
        ratios = [run["seconds"] / run["chapter4_epoch"] for run in runs]
        times[target] = statistics.median(ratios)
        assert times[target] <= recorded["parts"][target]["limit"]
        (macs[target],) = {run["multiply_accumulates"] for run in runs}
        (hardware[target],) = {where(run) for run in runs}
        size = "larger" if target == "0.94" else "smaller"
        label = f"our {size}, {recorded['parts'][target]['epochs']} epochs"
        ax.plot(ratios, [100 * value for value in reached], marker, label=label)
        seconds = f"{median(runs, 'seconds'):,.0f}"
        least_and_most = f"{times[target]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append((percent(float(target)), spread(reached), seconds, tight(least_and_most)))
    ax.set(xscale="log", xticks=[0.25, 0.5, 1, 2, 4, 8])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.minorticks_off()
    ax.legend()
    quickest, best, largest = (
        median(ours[target], "accuracy") for target in ("0.907", "0.93", "0.94")
    )
    assert quickest > max(theirs)
    assert 0.3 < times["0.907"] < 0.37  # "a third"
    most_of_theirs = f"{100 * max(theirs):.2f}\N{NO-BREAK SPACE}%"  # 90.7 % would look reached
    alt = f"""The clothes network of chapter 4 climbs from {percent(theirs[0])} after one epoch to
        at most {most_of_theirs} in {len(theirs)}. Our smaller network reaches
        {percent(quickest)} in a third of the time of one epoch, and {percent(best)} in
        {times["0.93"]:.1f} times that of an epoch; our larger one {percent(largest)} in
        {times["0.94"]:.1f} times."""
    assert macs["0.907"] == macs["0.92"] == macs["0.93"]
    assert 14 < clothes["multiply_accumulates"] / macs["0.93"] < 16  # "a fifteenth"
    most, other = hardware["0.93"], hardware["0.94"]
    assert {hardware["0.907"], hardware["0.92"]} == {most} != {other}  # "the last row"
    parts = [recorded["parts"][target] for target in sorted(ours)]
    assert [part["border"] for part in parts] == [0, 0, 1, 1]  # "the two longer"
    lengths = [part["epochs"] for part in parts]
    return {
        "clothes_parameters": f"{clothes['parameters'] / 1e6:.1f}",
        "clothes_macs": f"{clothes['multiply_accumulates'] / 1e6:.1f}",
        "clothes_epochs": str(len(theirs)),
        "speed_macs": f"{macs['0.93'] / 1e6:.1f}",
        "speed_larger_macs": f"{macs['0.94'] / 1e6:.1f}",
        "speed_epochs": "{}, {} or {}".format(*lengths[:-1]),
        "speed_larger_epochs": str(lengths[-1]),
        "speed_theirs": most_of_theirs,
        "speed_ours": percent(quickest),
        "speed_picture": picture(drawing, "speed", folder, alt),
        "speed_table": table(*rows),
        "speed_how": how(
            "`python benchmarks/time_to_accuracy.py`",
            "60,000 training images, 10,000 test images; the clothes network trains on 48,000 of "
            f"them, as in chapter 4. {most}; for the last row, {other}. The seconds are those of "
            "training alone.",
        ),
    }


def step() -> dict[str, str]:
    """Say where the time of a training step goes."""
    full, half = steps_of(bfloat16=True)
    other_full, other_half = steps_of(bfloat16=False)
    rates = full["gigamacs_per_second"]
    wide, narrow = seconds_of_a_step(full), seconds_of_a_step(half)
    assert 0.3 < wide["`Conv2D`"] / full["step_seconds"] < 0.7  # not "nearly all"
    assert wide["`BatchNormalization`"] > 3 * wide["`ReLU`"]
    assert half["step_seconds"] < 0.8 * full["step_seconds"]
    assert other_half["step_seconds"] > 1.2 * other_full["step_seconds"]  # "longer"
    return {
        "step_peak": f"{rates['matrix product']:.0f}",
        "step_batch": str(full["setting"]["batch"]),
        "step_macs": f"{rates['training step'] * full['step_seconds']:.1f}",
        "step_seconds": f"{full['step_seconds']:.2f}",
        "step_share": spread([full["share"][end] for end in ("min", "median", "max")]),
        "step_half_seconds": f"{half['step_seconds']:.2f}",
        "step_half_share": spread([half["share"][end] for end in ("min", "median", "max")]),
        "step_other_seconds": f"{other_full['step_seconds']:.2f}",
        "step_other_half_seconds": f"{other_half['step_seconds']:.2f}",
        "step_table": table(
            ("layers, timed alone", "float32, seconds", "of the step", "bfloat16", "of the step"),
            *(
                (
                    kind,
                    f"{wide[kind]:.3f}",
                    percent(wide[kind] / full["step_seconds"]),
                    f"{narrow[kind]:.3f}",
                    percent(narrow[kind] / half["step_seconds"]),
                )
                for kind in wide
            ),
        ),
        "step_how": how(
            "`python benchmarks/training_step.py`, then with `--policy mixed_bfloat16`",
            f"{where(full)}; the other processor: {where(other_full)}. "
            f"TensorFlow {full['versions']['tensorflow']}, Keras {full['versions']['keras']}.",
        ),
    }


def steps_of(bfloat16: bool) -> tuple[dict, dict]:
    """Return the step in float32 and in bfloat16, of a processor with or without that format."""
    full, half = (
        run
        for policy in ("float32", "mixed_bfloat16")
        for run in benchmark("training_step")["runs"]
        if run["setting"]["one_dnn"]
        and run["setting"]["dtype_policy"] == policy
        and ("bfloat16" in run["hardware"]["processor"]) == bfloat16
    )
    assert (full["hardware"], full["versions"]) == (half["hardware"], half["versions"])
    return full, half


def where(run: dict) -> str:
    """Return the cores and the processor of a benchmark's run."""
    return f"{run['hardware']['cores']} cores of {run['hardware']['processor']}"


def seconds_of_a_step(measured: dict) -> dict[str, float]:
    """Return the seconds of the three dearest kinds of layers, and of the rest of the step."""
    alone = measured["layers_alone_seconds"]
    seconds = {f"`{kind}`": alone[kind] for kind in ("Conv2D", "BatchNormalization", "ReLU")}
    rest = measured["step_seconds"] - sum(seconds.values())
    assert rest > 0
    return {**seconds, "the rest of the step": rest}


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
    memory = {name: median(runs, "peak_megabytes") for name, runs in families.items()}
    least, most = (end(memory, key=memory.get) for end in (min, max))
    assert (least, most) == ("lenet_mini", "xception_mini")
    assert memory[most] < 1.3 * memory[least]  # "hardly"
    # The same networks, but for the first value of their gammas, trained on the day of the others.
    before = results("ablations")["runs"]
    slower = [
        median(families[name], "seconds")
        / median(select(before, network=name, option=option), "seconds")
        for name, option in (("resnet_mini", "A"), ("se_resnet_mini", None))
    ]
    assert min(slower) > 1.2
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
        "lineage_least_memory": f"{memory[least]:,.0f}",
        "lineage_most_memory": f"{memory[most]:,.0f}",
        "lineage_slower": " and ".join(f"{ratio:.1f}" for ratio in slower),
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
    assert all(final["resnet", 20, measure] < final["resnet", 56, measure] for measure in measures)
    assert {run["seed"] for run in recorded["runs"]} == {0}  # "once each"
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
        for (epoch, values), style in zip(norms[name].items(), ("-", "--", "-.", ":"), strict=True):
            label = f"before epoch {int(epoch) + 1}"
            ax.plot(range(1, len(values) + 1), values, style, label=label)
        ax.set(title=title, yscale="log")
    panels[1].legend(fontsize=10)
    first, final = (norms["plain56"]["0"][at] for at in (0, -1))
    assert first > 100 * final
    # How many times the last layer's is the first layer's, once the training is on its way.
    plain, residual = (
        [of[epoch][-1] / of[epoch][0] for epoch in ("1", "15", "29")] for of in norms.values()
    )
    assert plain == sorted(plain, reverse=True)
    assert plain[-1] > 3
    assert all(1 / 2 < factor < 2 for factor in residual)
    assert all(of["1"][-1] > 20 * min(of["1"]) for of in norms.values())  # "over 20 times"
    alt = f"""The norm of each layer's gradient. Before the first epoch those of the plain network
        grow towards the image, from {final:.2g} in the last layer to {first:.0f} in the first.
        From the second epoch on they shrink towards the image instead. With shortcuts the first and
        the last layer are within a factor of 2 from the second epoch on."""
    return {
        "gradients_picture": picture(drawing, "gradients", folder, alt),
        "gradient_first": f"{first:.0f}",
        "gradient_last": f"{final:.2g}",
        "gradient_second": f"{plain[0]:.0f}",
        "gradient_end": f"{plain[-1]:.0f}",
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
    assert alike(one, squeezed)
    assert lead(one, squeezed) > 0  # "lower"
    assert alike(none, one)
    assert statistics.median(squeezed_zero) > max(zero)
    alt = f"""Three trainings of each variant. Without shortcuts the network reaches {spread(none)}.
        With shortcuts of option A it reaches {spread(one)} if the last gamma starts at one, and
        {spread(zero)} if it starts at zero; with option B and zero {spread(projected)}. With
        squeeze-and-excitation and option A it is {spread(squeezed)} and
        {spread(squeezed_zero)}."""
    rows = ((name, spread(reached)) for name, reached in accuracies.items())
    photos = results("cifar_by_fit")["runs"]
    (photos_zero,) = select(photos, network="resnet20", last_gamma="zeros")
    (photos_squeezed,) = select(photos, network="se_resnet20", last_gamma="zeros")
    dead, channels = photos_zero["dead_channels"]["conv4"]
    assert (dead, channels) == (48, 64)  # "uses a quarter of them"
    assert all_alive(photos_squeezed)
    assert last([photos_squeezed]) > last([photos_zero])
    return {
        "ablations_picture": picture(drawing, "ablations", folder, alt),
        "ablations_table": table(("`resnet_mini`, its shortcut", "test accuracy"), *rows),
        "ablations_cost": f"{100 * lead(one, zero):.1f}",
        "ablations_dead": str(dead),
        "ablations_channels": str(channels),
        "ablations_cifar": spread(last([photos_zero])),
        "ablations_cifar_squeezed": spread(last([photos_squeezed])),
        "squeeze_loss": f"{100 * lead(one, squeezed):.1f}",
        "ablations_range": f"{100 * (max(one) - min(one)):.1f}",
        "ablations_how": how_recorded(recorded),
    }


def all_alive(run: dict) -> bool:
    """Return whether each stage of the trained network uses all its channels."""
    return not any(dead for dead, _ in run["dead_channels"].values())


def cifar(folder: Path) -> dict[str, str]:
    """Say how right ResNet-20 becomes on photos, by the course's recipe and by SGD."""
    recorded, sgd = results("cifar_by_fit"), results("cifar_resnets")["runs"]
    longer = results("cifar_in_bfloat16")
    (more,) = select(longer["runs"], network="resnet20")
    (preact,) = select(longer["runs"], network="preact_resnet20")
    (one,) = select(recorded["runs"], network="resnet20", last_gamma=None, border=2)
    (shifted,) = select(recorded["runs"], network="resnet20", border=4)
    (zero,) = select(recorded["runs"], network="resnet20", last_gamma="zeros")
    (squeezed,) = select(recorded["runs"], network="se_resnet20", last_gamma="zeros")
    paper = f"{PAPER_RESNET20}\N{NO-BREAK SPACE}%"
    drawing, (ax,) = axes("epoch", "test accuracy, %")
    ax.axhline(PAPER_RESNET20, color="0.5", linestyle=":")
    ax.text(1, 92, f"the paper, after {PAPER_EPOCHS} epochs", fontsize=11)
    rows = [
        ("ResNet-20, trained", "epochs", "test accuracy"),
        ("in the paper, by SGD", PAPER_EPOCHS, paper),
    ]
    for run, label, style in (
        (more, f"γ starts at 1, {more['epochs']} epochs", "-."),
        (one, f"γ starts at 1, {one['epochs']} epochs", "-"),
        (zero, f"γ starts at 0, {one['epochs']} epochs", "--"),
    ):
        errors = run["history"]["test_error"]
        ax.plot(
            range(1, len(errors) + 1), [100 * (1 - error) for error in errors], style, label=label
        )
    for trained, runs in (
        ("by `training.fit`", [one]),
        ("the same, γ starts at 0", [zero]),
        ("the same, γ starts at 0, with SE", [squeezed]),
        ("γ starts at 1, shifts of up to 4", [shifted]),
        ("the same, longer, in bfloat16", [more]),
        ("the same, with pre-activation", [preact]),
        ("by SGD on a GPU, γ starts at 0", sgd),
    ):
        rows.append((trained, runs[0]["epochs"], spread(last(runs))))
    ax.set(ylim=(None, 94))
    ax.legend(loc="lower right")
    assert {(run["network"], run["last_gamma"]) for run in sgd} == {("resnet20", "zeros")}
    assert len({run["epochs"] for run in (one, shifted, zero, squeezed)}) == 1
    assert one["hardware"].startswith("2 cores of ")  # "two cores"
    assert {run["border"] for run in (one, zero, squeezed)} == {2}
    assert shifted["last_gamma"] is None
    assert all_alive(one)
    reached, dead, woken = (last([run])[0] for run in (one, zero, squeezed))
    assert round(PAPER_EPOCHS / one["epochs"]) == 7  # "a seventh"
    assert woken - 0.005 < reached < PAPER_RESNET20 / 100  # "as well", "less"
    assert reached - dead > 0.01  # more than seeds differ by in `sgd`
    (train,) = last([one], "train")
    assert 1 - train < (1 - reached) / 2  # "far below"
    (train_shifted,), (reached_shifted,) = last([shifted], "train"), last([shifted])
    assert train_shifted < train - 0.005  # "rose"
    seeds = last(sgd)
    assert abs(reached_shifted - reached) < max(seeds) - min(seeds)
    reached_more, reached_preact = (last([run])[0] for run in (more, preact))
    assert PAPER_RESNET20 / 100 <= reached_more < PAPER_RESNET20 / 100 + 0.005  # "as many"
    assert round(PAPER_EPOCHS / more["epochs"]) == 4  # "a quarter"
    assert {(run["epochs"], run["border"], run["policy"]) for run in (more, preact)} == {
        (more["epochs"], 4, "mixed_bfloat16")
    }
    assert {run["hardware"][:10] for run in (more, preact)} == {"1 core of "}  # "a core each"
    assert 0.7 < (reached_more - reached_preact) / (max(seeds) - min(seeds)) < 1.3  # "about"
    alt = f"""Test accuracy of ResNet-20 by epoch. With a gamma that starts at 1 it is
        {percent(reached)} after {one["epochs"]} epochs, with one that starts at 0
        {percent(dead)}. After {more["epochs"]} epochs it is {percent(reached_more)}; the paper
        reports {paper}."""
    return {
        "cifar_picture": picture(drawing, "cifar", folder, alt),
        "cifar_table": table(*rows),
        "cifar_parameters": f"{MODELS['resnet20'].trainable:,}",
        "cifar_paper_epochs": str(PAPER_EPOCHS),
        "cifar_reached": percent(reached),
        "cifar_behind": f"{PAPER_RESNET20 - 100 * reached:.1f}",
        "cifar_cost": f"{100 * (reached - dead):.1f}",
        "cifar_train": percent(1 - train),
        "cifar_train_shifted": percent(1 - train_shifted),
        "cifar_error": percent(1 - reached),
        "cifar_moved": f"{100 * abs(reached_shifted - reached):.1f}",
        "cifar_more": percent(reached_more),
        "cifar_more_epochs": str(more["epochs"]),
        "cifar_more_hours": f"{more['seconds'] / 3600:.1f}",
        "cifar_more_flips": percent(1 - more["test_error_with_flips"]),
        "cifar_preact": percent(reached_preact),
        "cifar_epochs": str(one["epochs"]),
        "cifar_hours": f"{one['seconds'] / 3600:.1f}",
        "cifar_flips": percent(1 - one["test_error_with_flips"]),
        "cifar_how": how_recorded(recorded, longer, results("cifar_resnets")),
    }


def training_size(folder: Path) -> dict[str, str]:
    """Say what more training images buy."""
    recorded = results("training_size")
    all_of_them = select(results("lineage")["runs"], network="resnet_mini")
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
    assert {len(values) for values in test.values()} == {3}  # "three times"
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
    rows, cards = [], read("resnetlib", "_data", "weights", "cards.json")
    zeros = [name for name, card in cards.items() if card["last_gamma"] == "zeros"]
    assert zeros == ["se_resnet20-cifar10"]
    assert {(card["seed"], card["test_images"]) for card in cards.values()} == {(0, 10_000)}
    for card in cards.values():
        others = ", ".join(map(percent, card["test_accuracy_of_other_seeds"]))
        arguments = f'`"{card["network"]}", weights="{card["dataset"]}"`'
        rows.append((arguments, percent(card["test_accuracy"]), others))
    return {"weights_table": table(("arguments", "test accuracy", "of other seeds"), *rows)}


if __name__ == "__main__":
    write(ROOT / "book")
