"""`python -m lib check`: a recorded number is found again, or it is not, and the reader is told which."""

import json
from dataclasses import replace

import pytest
import stored
import torch

from lib import __main__, data, models
from lib.run import checking, evaluations, material, measurements
from lib.store import plans, records, weights
from lib.store.grid import Measurement, Run

RUN = Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
VOLUME = Measurement("log2_perturbable_volume", "mnist", "original", "smoke")
IMAGES = 200


@pytest.fixture
def kept(trained, digits, monkeypatch) -> Run:
    """`RUN` with an untrained network's weights kept and its evaluation `pgd` recorded, on the digits at hand."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build("lenet5", 0.25).eval()
    x, y = (part[:IMAGES] for part in digits)
    declared = plans._evaluation

    def fewer(run, name):
        settings = {**declared(run, name).settings, "sizes": {"test": IMAGES}}
        if "threat_model" in settings:
            settings["threat_model"] = {**settings["threat_model"], "num_steps": 1, "eps": 0.01, "step_size": 0.01}
        return replace(declared(run, name), settings=plans.Settings.of(settings))

    monkeypatch.setattr(material, "images_of", lambda *_: (x, y, "digits"))
    monkeypatch.setattr(data, "load", lambda name, split, load=data.load: load("mnist-5000", split))
    monkeypatch.setattr(plans, "_evaluation", fewer)
    stored.write(RUN, "training", weights=weights.digest(model))
    evaluations.evaluate(RUN, "pgd", model, torch.device("cpu"))
    weights.keep(RUN, model)
    return RUN


def change(item, name: str, changed) -> None:
    """Write a record of `item` as `changed` leaves it."""
    file = records.path(item, name)
    record = json.loads(file.read_text())
    changed(record)
    file.write_text(json.dumps(record))


def moved(run: Run, outcome: torch.Tensor) -> None:
    """Let the record say that `outcome` is what became of the images under attack."""

    def changed(record):
        record["outcomes"]["test"]["robust_accuracy"] = records.pack(outcome)
        record["metrics"]["test"]["robust_accuracy"] = outcome.double().mean().item()

    change(run, "pgd", changed)


def recorded(run: Run) -> torch.Tensor:
    return records.unpack(records.read(run, "pgd")["outcomes"]["test"]["robust_accuracy"], IMAGES)


def test_a_recorded_number_is_found_exactly(kept):
    check = checking.check(kept, images=IMAGES)
    assert check.found
    assert (check.images, check.of) == (IMAGES, IMAGES)
    assert check.compared.keys() == {"clean_accuracy", "robust_accuracy", "robustness_wrt_predictions"}
    assert all(both.more == both.fewer == 0 for both in check.compared.values())
    assert str(check).endswith("found again, exactly")


def test_images_that_differ_are_counted_and_judged_as_the_kept_weights_are(kept):
    robust = recorded(kept)
    stood = robust.nonzero().flatten()
    assert len(stood) > 15
    for count, found_again in ((4, True), (15, False)):  # a sign test: 4 of 4 is chance, 15 of 15 is not
        outcome = robust.clone()
        outcome[stood[:count]] = False
        moved(kept, outcome)
        check = checking.check(kept, images=IMAGES)
        assert check.found is found_again
        assert (check.compared["robust_accuracy"].more, check.compared["robust_accuracy"].fewer) == (count, 0)
        assert f"images that differ: {count} ({count} now true, 0 now false)" in str(check)
        assert ("NOT found again" in str(check)) is not found_again


def test_rounding_tips_as_many_images_one_way_as_the_other():
    recorded = torch.arange(100) < 50
    both = checking.Compared.of(recorded, recorded.roll(15))
    assert both == checking.Compared(100, 50.0, 50.0, 15, 15)
    assert both.by_rounding
    assert not checking.Compared.of(recorded, torch.arange(100) < 65).by_rounding


def test_how_many_images_follows_from_how_long_the_record_took(kept):
    assert checking.check(kept, images=30).images == 30
    for seconds, images in ((checking.SECONDS * 4, IMAGES // 4), (1e6, checking.FEWEST), (0.0, IMAGES)):
        change(kept, "pgd", lambda record, seconds=seconds: record.update(seconds=seconds, device="a processor, 1 thread"))
        assert checking.check(kept).images == images
    change(kept, "pgd", lambda record: record.update(seconds=0.1, device="a GPU"))
    assert checking.check(kept).images == checking.FEWEST


def test_it_computes_on_the_threads_of_the_record(kept, monkeypatch):
    change(kept, "pgd", lambda record: record.update(device="a processor, 2 threads"))
    monkeypatch.setattr(checking.os, "cpu_count", lambda: 2)
    used = []
    monkeypatch.setattr(
        evaluations, "outcomes_of",
        lambda *arguments, take=evaluations.outcomes_of: used.append(torch.get_num_threads()) or take(*arguments),
    )  # fmt: skip
    checking.check(kept)
    assert used == [2]
    assert torch.get_num_threads() == 1


def test_what_cannot_be_checked_is_said_with_the_command_that_trains_it_anew(kept):
    weights.path(kept).unlink()
    change(kept, "pgd", lambda record: record.update(device="a processor, 1 thread"))
    anew = (
        f"RESULTS_DIR=again CHECKPOINT_DIR=again/checkpoints OMP_NUM_THREADS=1 python -m lib run {kept.key} --scale laptop "
        f"--device cpu"
    )
    with pytest.raises(FileNotFoundError, match=f"the weights of {kept} are not kept; .*: {anew}$"):
        checking.check(kept)
    assert checking.anew_command(kept, {"device": "a GPU"}).endswith("--scale laptop --device cuda")
    with pytest.raises(ValueError, match=r"'training' is not an evaluation of laptop: .*; allowed: pgd, "):
        checking.check(kept, "training")
    with pytest.raises(ValueError, match="images must be ≥ 1, given 0"):
        checking.check(kept, images=0)
    with pytest.raises(FileNotFoundError, match=r"has no record pgd-unboxed; python -m lib run .* computes it"):
        checking.check(kept, "pgd-unboxed")
    change(kept, "pgd", lambda record: record.update(numerics=1))
    with pytest.raises(records.RecordError, match="the record pgd of .* is stale, so it has no number to check"):
        checking.check(kept)


def test_a_record_of_other_images_is_not_compared(kept):
    change(kept, "pgd", lambda record: record["data"].update(test=64 * "0"))
    with pytest.raises(records.RecordError, match="was computed on other images than the 'mnist' of this machine"):
        checking.check(kept)


def test_an_attack_from_another_network_needs_that_one(kept):
    run = Run.parse("mnist/smooth-8/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
    stored.write(run, "training", weights="0123456789ab")
    stored.write(run, "transfer", weights="0123456789ab")
    with pytest.raises(FileNotFoundError, match="the weights of .*/pgd/.* are not kept"):
        checking.check(run, "transfer")


def test_a_measurement_is_taken_again():
    measurements.measure(VOLUME)
    check = checking.check(VOLUME)
    assert check.found
    assert (check.numbers, check.apart) == (1, 0.0)
    change(VOLUME, "measured", lambda record: record["metrics"]["test"].update(log2_perturbable_volume=-1.0))
    check = checking.check(VOLUME)
    assert not check.found
    assert "NOT found again" in str(check)
    change(VOLUME, "measured", lambda record: record.update(seconds=1e5))
    with pytest.raises(ValueError, match="took 100000 seconds, too long for a check; measure it again with: RESULTS_DIR=again"):
        checking.check(VOLUME)


def test_the_command_says_it_with_its_exit_status(kept, monkeypatch, capsys):
    def called(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lib", "check", *arguments])
        with pytest.raises(SystemExit) as left:
            __main__.main()
        return left.value.code or 0, *capsys.readouterr()

    status, out, _ = called(kept.key, "--images", "50")
    assert status == 0
    assert out.startswith(f"pgd of {kept}, the first 50 of {IMAGES} test images\n")
    moved(kept, torch.zeros(IMAGES, dtype=torch.bool))
    status, out, _ = called(kept.key, "--scale", "laptop", "--evaluation", "pgd")
    assert status == 1
    assert out.endswith("NOT found again: rounding does not explain the differences\n")
    weights.path(kept).unlink()
    status, out, err = called(kept.key)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert called("table-2")[2].startswith("error: 'table-2' is not a run's key; a key is DATASET/")


@pytest.mark.parametrize("name", ["pgd", "square", "autoattack", "certified", "ramp", "eps-curve", "clean"])
def test_the_code_of_a_number_is_its_evaluation_and_its_attack(name):
    from lib import attacks, certified, evaluation

    of = checking.code_of(RUN, name)
    assert (attacks.pgd in of) == (name in ("pgd", "certified", "ramp", "eps-curve"))
    assert (attacks.autoattack in of) == (name == "autoattack")
    assert (attacks.square in of) == (name in ("square", "ramp"))
    assert (certified.margins in of) == (name == "certified")
    assert (evaluation.survives in of) == (name in ("square", "autoattack", "ramp", "eps-curve"))
    assert (evaluation.evaluate in of) == (name in ("pgd", "certified", "ramp", "clean"))
