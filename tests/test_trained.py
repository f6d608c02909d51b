"""The shipped weights against their cards, and the recorded results against their plans."""

import json

import jsonschema
import pytest

from book.experiments import shared
from book.experiments.__main__ import recorded
from book.experiments.plans import PLANS
from book.press.chapters import ROOT
from resnetlib import data, models, training, weights

CARDS = weights.trained()
FILES = ROOT / "resnetlib" / "_data" / "weights"
SETS = {"cifar10": data.cifar10, "fashion_mnist": data.fashion_mnist}
RESULTS = sorted((ROOT / "book" / "results").glob("*.json"))

errors = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}
counts = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
losses = {"type": "array", "items": {"type": "number", "minimum": 0}}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["experiment", "question", "protocol", "runs"],
    "properties": {
        "experiment": {"type": "string"},
        "question": {"type": "string"},
        "protocol": {"type": "string"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["network", "seed", "history", "commit", "hardware", "versions"],
                "properties": {
                    "network": {"enum": list(models.MODELS)},
                    "dataset": {"enum": list(shared.SIZES)},
                    "recipe": {"type": "string"},
                    "epochs": {"type": "integer", "minimum": 1},
                    "seed": {"type": "integer", "minimum": 0},
                    "option": {"enum": [None, "A", "B", "C"]},
                    "last_gamma": {"enum": [None, "zeros", "ones"]},
                    "images": {"type": "integer", "minimum": 0},
                    "border": {"type": "integer", "minimum": 0},
                    "policy": {"enum": ["float32", "mixed_bfloat16"]},
                    "probe": {"type": "array", "items": {"type": "integer"}},
                    "parameters": {"type": "integer"},
                    "history": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["train_loss", "train_error", "test_loss", "test_error"],
                        "properties": {
                            "train_loss": losses,
                            "test_loss": losses,
                            "train_error": errors,
                            "test_error": errors,
                        },
                    },
                    "test_error_with_flips": {"type": "number", "minimum": 0, "maximum": 1},
                    "gradient_norms": {"type": "object"},
                    "dead_channels": {"type": "object", "additionalProperties": counts},
                    "seconds": {"type": "number", "exclusiveMinimum": 0},
                    "peak_megabytes": {"type": "integer", "exclusiveMinimum": 0},
                    "hardware": {"type": "string", "pattern": "^[^/]+$"},
                    "versions": {"type": "object", "additionalProperties": {"type": "string"}},
                    "commit": {"type": "string", "pattern": "^[0-9a-f]{40}$"},
                },
            },
        },
    },
}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_whole_and_those_of_the_plan(path):
    result = json.loads(path.read_text())
    jsonschema.validate(result, SCHEMA)
    plan = PLANS[path.stem]
    assert (result["experiment"], result["protocol"]) == (path.stem, plan.protocol)
    assert len(recorded(path.stem, plan)) == len(result["runs"])  # all planned, none twice
    for run in result["runs"]:
        assert {len(values) for values in run["history"].values()} == {run["epochs"]}
        assert set(run["gradient_norms"]) == set(map(str, run["probe"]))
        shape = (32, 32, 3) if run["dataset"] == "cifar10" else (28, 28, 1)
        assert models.MODELS[run["network"]].input_shape == shape
        more = run["option"] in ("B", "C")  # a projection has parameters, option A none
        assert (run["parameters"] > models.MODELS[run["network"]].total) == more
        assert (run["parameters"] == models.MODELS[run["network"]].total) != more


def test_no_run_stands_under_two_names():
    runs = [run for path in RESULTS for run in json.loads(path.read_text())["runs"]]
    histories = [json.dumps(run["history"]) for run in runs]
    assert len(set(histories)) == len(histories)


@pytest.mark.parametrize("name", CARDS)
def test_weights_keep_what_their_card_says(name):
    """The embedded sample may miss the full test set's accuracy by four standard errors."""
    card = CARDS[name]
    sample = SETS[card["dataset"]]()[1]
    model = models.build(card["network"], weights=card["dataset"])
    measured = training.evaluate(model, sample)["accuracy"]
    promised = card["test_accuracy"]
    error = (promised * (1 - promised) / len(sample)) ** 0.5
    assert abs(measured - promised) < 4 * error


def test_the_cards_are_those_of_the_recorded_runs():
    runs, protocols = {}, {plan.protocol for plan in PLANS.values()}
    what = "network", "dataset", "recipe", "border", "policy", "last_gamma"
    for path in RESULTS:
        for run in json.loads(path.read_text())["runs"]:
            if not run["images"] and not run["option"]:  # as the registry builds it, on all images
                runs[*(run[key] for key in what), run["seed"]] = run
    for card in CARDS.values():
        run = runs[*(card[key] for key in what), card["seed"]]
        assert card["test_accuracy"] == pytest.approx(1 - run["history"]["test_error"][-1])
        for fact in ("commit", "hardware", "epochs"):
            assert card[fact] == run[fact]
        assert card["protocol"] in protocols
        twins = [
            1 - twin["history"]["test_error"][-1]
            for (*facts, seed), twin in runs.items()
            if facts == [card[key] for key in what] and seed != card["seed"]
        ]
        assert card["test_accuracy_of_other_seeds"] == pytest.approx(twins)


def test_the_files_are_small_and_each_has_a_card():
    sizes = {path.stem: path.stat().st_size for path in FILES.glob("*.npz")}
    assert sizes.keys() == CARDS.keys()
    assert max(sizes.values()) < 600_000
    assert sum(sizes.values()) < 4_000_000


def test_what_is_not_there_is_named():
    with pytest.raises(
        ValueError, match=r"no trained weights 'resnet32-cifar10'.*resnet20-cifar10"
    ):
        models.build("resnet32", weights="cifar10")
    with pytest.raises(ValueError, match=r"are for images of \(32, 32, 3\) and 10 classes"):
        models.build("resnet20", weights="cifar10", classes=5)


def test_a_network_of_another_shape_keeps_its_weights():
    model = models.build("lenet_mini", classes=5)
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"'output/kernel' \(84, 5\) differs from array .* \(84, 10\)"
    ):
        weights.load_trained(model, "fashion_mnist")
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        assert (ours == theirs).all()


def test_a_damaged_file_is_refused(monkeypatch):
    name = "resnet_mini-fashion_mnist"
    damaged = CARDS | {name: CARDS[name] | {"sha256": "0" * 64}}
    monkeypatch.setattr(weights, "trained", lambda: damaged)
    with pytest.raises(ValueError, match=f"{name}.npz has a wrong checksum.*Install resnetlib"):
        models.build("resnet_mini", weights="fashion_mnist")
