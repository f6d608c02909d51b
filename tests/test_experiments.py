"""The experiments that `training.fit` runs: a record, cut off and gone on, repeated, shared out."""

import inspect
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from book.experiments import __main__ as experiments
from book.experiments import laptop, shared
from book.experiments.plans import FIT, PLANS, Plan, Run
from book.press.chapters import ROOT
from resnetlib import recipe, training
from resnetlib.recipe import flip_and_shift

RUN = Run("lenet_mini", "fashion_mnist_sample", FIT, 2, seed=0, images=100)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(shared, "SIZES", {RUN.dataset: (640, 200)})


def test_a_run_leaves_its_record_and_its_weights(tmp_path, monkeypatch):
    seen = {}
    fit = training.fit

    def watched(model, train, *arguments, **options):
        seen["train"] = train
        return fit(model, train, *arguments, **options)

    monkeypatch.setattr(training, "fit", watched)
    record = laptop.train(RUN, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{RUN.name}.json",
        f"{RUN.name}.npz",
    ]
    assert {len(values) for values in record["history"].values()} == {RUN.epochs}
    assert record["history"]["train_loss"][1] < record["history"]["train_loss"][0]
    assert 100 < record["peak_megabytes"] < 100_000
    # A hundred images stand for 640: each six times, forty of them once more.
    copies = np.unique(seen["train"].images, axis=0, return_counts=True)[1]
    assert sorted(copies) == [6] * 60 + [7] * 40
    with np.load(tmp_path / f"{RUN.name}.npz") as arrays:
        assert sum(array.size for array in arrays.values()) == record["parameters"]
    monkeypatch.delattr(shared, "sets")  # a training begins with it
    assert laptop.train(RUN, tmp_path) == json.loads(json.dumps(record))


def test_a_channel_is_dead_where_no_block_adds_to_it():
    weights = {
        "conv2_1_b_bn/gamma": [0, 0, 1, 0],
        "conv2_1_b_bn/beta": [0, 0, 0, -1],
        "conv2_2_b_bn/gamma": [0, 2, 0, 0],
        "conv2_2_b_bn/beta": [0, 0, 0, 0],
        "conv2_2_a_bn/gamma": [1, 1, 1, 1],
        "conv3_1_b_bn/gamma": [3, 3],
        "conv3_1_b_bn/beta": [0, 0],
        "conv2_1_b_bn/moving_mean": [1, 1, 1, 1],
    }
    assert shared.dead_channels(weights) == {"conv2": (1, 4), "conv3": (0, 2)}


def test_a_run_that_was_cut_off_goes_on_to_the_same_end(tmp_path):
    whole = laptop.train(RUN, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(training, "evaluate")  # what comes after the training
        with pytest.raises(AttributeError):
            laptop.train(RUN, tmp_path / "broken")
    assert [path.suffix for path in (tmp_path / "broken").iterdir()] == [".part"]

    seen = []

    def counted(images, rng, border):
        seen.append(len(images))
        return flip_and_shift(images, rng, border)

    counted.__qualname__ = "flip_and_shift"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laptop, "flip_and_shift", counted)
        again = laptop.train(RUN, tmp_path / "broken")
    assert 1 <= len(seen) <= 2, "a look at the first batch, but no epoch more"
    assert again["history"] == whole["history"]
    assert again["test_error_with_flips"] == whole["test_error_with_flips"]


def test_a_run_of_16_bits_computes_with_them_and_has_a_name_of_its_own(set_dtype_policy):
    set_dtype_policy("float32")  # undone after the test, and so what the run sets
    run = replace(RUN, policy="mixed_bfloat16")
    model = shared.network(run, (28, 28, 1), 10)
    assert model.get_layer("C1").compute_dtype == "bfloat16"
    assert run.name == "lenet_mini-100images-mixed_bfloat16-fit-seed0"


def test_results_of_two_folders_come_together(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "ROOT", tmp_path)
    (tmp_path / "book").mkdir()
    runs = [replace(RUN, seed=seed, epochs=1, probe=(3, 5)) for seed in (0, 1, 2)]
    plan = Plan("why?", "how", tuple(runs))
    for seed in (2, 0):  # each in a folder of its own, as on two machines
        folder = tmp_path / f"machine{seed}"
        laptop.train(runs[seed], folder)
        experiments.collect("some", plan, folder)
    assert runs[1].name in capsys.readouterr().out  # missing
    results = json.loads((tmp_path / "book" / "results" / "some.json").read_text())
    assert [record["seed"] for record in results["runs"]] == [0, 2]
    assert list(experiments.recorded("some", plan)) == [runs[0], runs[2]]
    assert experiments.recorded("some", replace(plan, protocol="otherwise")) == {}


def test_another_plan_takes_nothing_from_the_folder(tmp_path):
    run = replace(RUN, epochs=1)
    record = laptop.train(run, tmp_path)
    assert run.record(tmp_path) == json.loads(json.dumps(record))
    assert replace(run, epochs=3).record(tmp_path) is None
    plan = Plan("why?", "how", (run,))
    experiments.keep_protocol(plan, tmp_path)
    experiments.keep_protocol(plan, tmp_path)
    with pytest.raises(SystemExit, match="runs of another protocol; delete it"):
        experiments.keep_protocol(replace(plan, protocol="otherwise"), tmp_path)


def test_the_protocol_states_the_recipe():
    """Another recipe makes another protocol, and so other runs."""
    stated = PLANS["lineage"].protocol
    for words in (
        f"batch {inspect.signature(training.fit).parameters['batch_size'].default},",
        f"up to a rate of {recipe.PEAK:g} in the first tenth",
        f"weight decay {recipe.WEIGHT_DECAY:g}",
        f"label smoothing {recipe.LABEL_SMOOTHING:g}",
    ):
        assert words in stated
    assert recipe.WARMUP == 0.1  # the tenth


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "book.experiments", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_shares_of_an_experiment_are_the_whole():
    shares = [command("lineage", "--list", "--share", f"{i}/3").stdout for i in (1, 2, 3)]
    names = [run.name for run in PLANS["lineage"].runs]
    assert sorted("".join(shares).split()) == sorted(names)
    assert len(set(names)) == len(names)
    wrong = command("lineage", "--share", "3/2")
    assert wrong.returncode == 2
    assert "received 3/2" in wrong.stderr


def test_a_recorded_row_can_be_computed_again(tmp_path, monkeypatch):
    """The quickest run, on the images in the package; another processor rounds differently."""
    monkeypatch.undo()  # all images
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")  # so that run_all sets it for no other test
    recorded = json.loads((ROOT / "book" / "results" / "lineage_sample.json").read_text())
    row = next(run for run in recorded["runs"] if run["network"] == "lenet_mini")
    planned = next(run for run in PLANS["lineage_sample"].runs if run.network == "lenet_mini")
    experiments.run_all([planned], tmp_path)
    again = planned.record(tmp_path)
    for measure, tolerance in (("train_error", 0.02), ("test_error", 0.03)):
        np.testing.assert_allclose(
            again["history"][measure], row["history"][measure], atol=tolerance, err_msg=measure
        )
