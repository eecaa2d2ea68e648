"""Weights that are kept for a doubter: which, how large, and that they are those of the records."""

import json
import re
from dataclasses import replace

import pytest
import stored
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lib import attacks, data, models
from lib.base import checkpoints
from lib.run import checking, evaluations, material
from lib.store import grid, plans, records, weights
from lib.store.grid import Run

RUN = Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
COMMITTED = records.ROOT / "results" / "weights"


@pytest.fixture
def recorded(trained) -> torch.nn.Module:
    """A network that stands for the trained one of `RUN`, and a record of its training."""
    with torch.random.fork_rng(devices=[]):  # whatever tests ran before, the same network
        torch.manual_seed(0)
        model = models.build("lenet5", 0.25).eval()
    stored.write(RUN, "training", weights=weights.digest(model))
    return model


def _rounded(model) -> None:
    """What the first edition kept of `RUN`."""
    halves = {name: value.half() for name, value in model.state_dict().items()}
    about = {"key": RUN.key, "scale": RUN.scale, "weights": weights.digest(model)}
    checkpoints.save_tensors(weights.path(RUN), halves, about)


def test_what_is_kept_is_the_network_bit_for_bit(recorded):
    with torch.no_grad():
        recorded[0].weight[:4] *= 1e-9  # what half precision has no numbers for
    stored.write(RUN, "training", weights=weights.digest(recorded))
    assert weights.keep(RUN, recorded)
    loaded = weights.load(RUN)
    assert not loaded.training
    assert not weights.is_rounded(RUN)
    for name, value in recorded.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not (loaded[0].weight == 0).any()


def test_rounded_weights_of_the_first_edition_are_read_and_replaced(recorded, digits):
    _rounded(recorded)
    assert weights.is_rounded(RUN)
    loaded = weights.load(RUN)
    for name, value in recorded.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    x = digits[0][:100]
    torch.testing.assert_close(loaded(x), recorded(x), atol=1e-2, rtol=1e-2)
    assert weights.keep(RUN, recorded)
    assert not weights.is_rounded(RUN)


def test_weights_that_were_damaged_are_refused(recorded):
    assert weights.keep(RUN, recorded)
    tensors, about = checkpoints.load_tensors(weights.path(RUN), "cpu")
    tensors["0.weight"][0] += 1e-6
    checkpoints.save_tensors(weights.path(RUN), tensors, about)
    with pytest.raises(records.RecordError, match=r"is damaged: its weights are not those that it names"):
        weights.load(RUN)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("as_trained", [0.3, 1e-9, -1e-9]),
        ("half", [0.300048828125, 0.0, 0.0]),
        ("tiny_zero", [0.3, 0.0, 0.0]),
        ("half_but_tiny", [0.300048828125, 1e-9, -1e-9]),
        ("tiny_shrunk", [0.3, 1e-15, -1e-15]),
        ("tiny_flipped", [0.3, -1e-9, 1e-9]),
    ],
)
def test_weights_are_changed_in_a_copy(change, expected):
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[0.3, 1e-9, -1e-9]])
    copied = weights.changed(model, change)
    torch.testing.assert_close(copied.weight.data[0], torch.tensor(expected), rtol=1e-6, atol=0)
    assert model.weight.data.tolist() == [pytest.approx([0.3, 1e-9, -1e-9], rel=1e-6)]


def test_unknown_changes_are_refused():
    with pytest.raises(ValueError, match="unknown change 'quarter'; allowed: as_trained, half, tiny_zero"):
        weights.changed(torch.nn.Linear(1, 1), "quarter")


def test_kept_weights_do_for_a_later_evaluation(recorded):
    """The checkpoints are gone; what is kept beside the record is the network itself, unless it was rounded."""
    assert material.finished(RUN, torch.device("cpu")) is None
    weights.keep(RUN, recorded)
    loaded = material.trained_model(RUN, torch.device("cpu"))
    assert weights.digest(loaded) == weights.digest(recorded)
    _rounded(recorded)
    assert material.finished(RUN, torch.device("cpu")) is None


def test_half_precision_hides_the_gradient_of_the_network_it_was_found_on(monkeypatch, real_data):
    """Fashion-MNIST's original: the weights that half precision zeroes are what the attack goes by, and nothing else is."""
    monkeypatch.setenv("RESULTS_DIR", str(COMMITTED.parent))
    run = Run.parse("fashion_mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
    model = weights.load(run)
    x, y, _ = data.transformed("fashion_mnist", "test", "original", size=200)
    start = attacks.random_delta(x, 0.3, torch.Generator().manual_seed(0))
    held, still = {}, {}
    for change in ("as_trained", "half", "tiny_zero", "half_but_tiny", "tiny_shrunk"):
        network = weights.changed(model, change)
        attacked = attacks.pgd(network, x, y, eps=0.3, step_size=0.01, num_steps=40, start=start)
        held[change] = (network(attacked).argmax(1) == y).float().mean().item()
        once = attacks.pgd(network, x, y, eps=0.3, step_size=0.01, num_steps=1, start=start)
        still[change] = (once == (x + start).clamp(0, 1)).float().mean().item()
        assert ((network(x).argmax(1) == y) == (model(x).argmax(1) == y)).float().mean() > 0.99
    assert min(held["half"], held["tiny_zero"]) > held["as_trained"] + 0.03
    assert max(abs(held[name] - held["as_trained"]) for name in ("half_but_tiny", "tiny_shrunk")) < 0.015
    # Pixels that the first step leaves where they are: the box holds some of them, a gradient of 0 most.
    assert still["half"] > 0.7
    assert still["as_trained"] < still["half"] - 0.2


def test_what_is_kept_is_not_written_again(recorded):
    assert weights.keep(RUN, recorded)
    assert not weights.keep(RUN, recorded)
    weights.path(RUN).write_bytes(b"half of it")
    assert weights.keep(RUN, recorded)


def test_a_run_keeps_its_weights_when_it_is_found_trained(recorded):
    assert not checking.keep_weights(RUN)  # there is no checkpoint
    folder = material.checkpoint_folder(RUN)
    checkpoints.save_tensors(folder / "weights.safetensors", recorded.state_dict(), {"key": RUN.key})
    assert checking.keep_weights(RUN)
    assert not checking.keep_weights(RUN)
    assert weights.path(RUN).exists()


def test_weights_of_another_training_are_not_kept(recorded):
    folder = material.checkpoint_folder(RUN)
    checkpoints.save_tensors(folder / "weights.safetensors", models.build("lenet5", 0.25).state_dict(), {"key": RUN.key})
    assert not checking.keep_weights(RUN)


@pytest.mark.parametrize(
    "change",
    [
        {"training": "standard"},
        {"seed": 1},
        {"widen_factor": 0.5},
        {"scale": "smoke", "train_size": 4000},
        {"recipe": "short"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_runs_keep_none(recorded, change):
    other = replace(RUN, **change)
    assert not plans.of(other).keeps_weights
    assert not weights.keep(other, recorded)
    assert not weights.path(other).exists()


def test_weights_that_are_not_the_records_are_refused(recorded):
    weights.keep(RUN, recorded)
    stored.write(RUN, "training", weights="0123456789ab")
    with pytest.raises(
        records.RecordError, match=r"is of another training than the record of laptop: mnist/original/.*; delete it"
    ):
        weights.load(RUN)


def _without(tensors: dict, name: str) -> dict:
    return {other: value for other, value in tensors.items() if other != name}


NAME = "7.weight"
# By name, what becomes of the tensors in a file of kept weights.
ALTERED = {
    "no number": lambda t: {**t, NAME: torch.full_like(t[NAME], float("nan"))},
    "infinite": lambda t: {**t, NAME: torch.full_like(t[NAME], float("inf"))},
    "int8": lambda t: {**t, NAME: t[NAME].to(torch.int8)},
    "int64": lambda t: {**t, NAME: t[NAME].long()},
    "float64": lambda t: {**t, NAME: t[NAME].double()},
    "bfloat16": lambda t: {**t, NAME: t[NAME].bfloat16()},
    "bool": lambda t: {**t, NAME: t[NAME] > 0},
    "one missing": lambda t: _without(t, NAME),
    "one unknown": lambda t: {**t, "more": torch.ones(1)},
    "renamed": lambda t: {**_without(t, NAME), "99.weight": t[NAME]},
    "none": lambda t: {},
    "another shape": lambda t: {**t, NAME: t[NAME][:1]},
    "turned": lambda t: {**t, NAME: t[NAME].T},
}
# These hold for another network's weights but for the digest.
LIKELY = {
    "zeros": lambda t: {name: torch.zeros_like(value) for name, value in t.items()},
    "a flipped bit": lambda t: {**t, NAME: (t[NAME].view(torch.int16) ^ 1).view(torch.float16)},
    "another sign": lambda t: {**t, NAME: -t[NAME]},
    "doubled": lambda t: {**t, NAME: 2 * t[NAME]},
}


@pytest.mark.parametrize("damage", [*ALTERED, *LIKELY])
@pytest.mark.parametrize("digest", [True, False])
def test_altered_weights_are_refused_in_one_line(recorded, damage, digest):
    if not digest and damage in LIKELY:
        pytest.skip("only the digest tells")
    weights.keep(RUN, recorded)
    file = weights.path(RUN)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors, _ = checkpoints.load_tensors(file, "cpu")
    if not digest:
        metadata = {"about": metadata["signed"].partition(" ")[2]}
    changed = {**ALTERED, **LIKELY}[damage](tensors)
    save_file({name: value.contiguous() for name, value in changed.items()}, file, metadata)
    with pytest.raises(records.RecordError, match=re.escape(str(file))) as error:
        weights.load(RUN)
    assert str(error.value).isprintable()
    assert "delete it" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"half of it", b"{" * 1000])
def test_a_file_that_holds_no_weights_is_refused_in_one_line(recorded, content):
    weights.keep(RUN, recorded)
    weights.path(RUN).write_bytes(content)
    with pytest.raises(records.RecordError, match="is not a readable checkpoint") as error:
        weights.load(RUN)
    assert str(error.value).isprintable()


def test_what_a_killed_process_was_writing_goes(recorded):
    part = weights.path(RUN).with_name(f".{weights.path(RUN).name}.123")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it")
    weights.keep(RUN, recorded)
    assert not part.exists()


def test_no_weights():
    with pytest.raises(FileNotFoundError, match=r"no weights of laptop: mnist/original/lenet5-w0.25/pgd.* are kept"):
        weights.load(RUN)


def test_narrow_networks_of_table_4_are_kept_at_the_papers_settings(recorded):
    own = replace(RUN, scale="paper")
    assert plans.of(own).keeps_weights
    assert plans.of(replace(own, transform="smooth-square-5", widen_factor=0.125)).keeps_weights
    assert not plans.of(replace(own, widen_factor=0.5)).keeps_weights
    assert not plans.of(replace(own, transform="rescale-to-smooth-3")).keeps_weights


@pytest.mark.parametrize(("gallery", "shown_with"), [("gallery-mnist", "table-2"), ("gallery-cifar10", "table-3")])
def test_a_gallery_s_standardly_trained_networks_are_kept(gallery, shown_with):
    runs = grid.runs(gallery, "laptop")
    attacked = {run.transform: run for run in grid.runs(shown_with, "laptop", seeds=1) if run.training == "pgd"}
    assert len(runs) == 5
    assert all(plans.of(run).keeps_weights and plans.of(attacked[run.transform]).keeps_weights for run in runs)
    assert not any(plans.of(run).keeps_weights for run in grid.runs(gallery, "smoke"))


def test_all_that_is_to_be_kept_is_at_most_forty_megabytes():
    kept = [
        run
        for scale in ("paper", "laptop")
        for run in grid.all_runs(scale, stretches=True)
        if isinstance(run, Run) and plans.of(run).keeps_weights
    ]
    assert len(kept) > 40
    sizes = []
    for run in kept:
        with torch.device("meta"):
            model = models.build(**plans.of(run).settings["model"])
        sizes.append(4 * sum(value.numel() for value in model.state_dict().values()) + 10_000)  # and the file's header
    assert sum(sizes) <= 40e6


def _attacked(model, digits, monkeypatch, images=200) -> None:
    """A record of `RUN` as if `model` had been attacked on made-up MNIST: the digits at hand."""
    x, y = (part[:images] for part in digits)
    monkeypatch.setattr(material, "images_of", lambda *_: (x, y, "digits"))
    monkeypatch.setattr(data, "load", lambda name, split, load=data.load: load("mnist-5000", split))
    monkeypatch.setattr(plans, "_evaluation", _fewer(plans._evaluation, images))
    evaluations.evaluate(RUN, "pgd", model, torch.device("cpu"))


def _fewer(declared, images):
    def fewer(run, name):
        evaluation = declared(run, name)
        return replace(evaluation, settings=plans.Settings.of({**evaluation.settings, "sizes": {"test": images}}))

    return fewer


def test_kept_weights_are_attacked_again_and_must_find_their_record(recorded, digits, monkeypatch):
    _attacked(recorded, digits, monkeypatch)
    weights.keep(RUN, recorded)
    checking.check_kept(RUN)
    file = records.path(RUN, "pgd")
    record = json.loads(file.read_text())
    clean, robust = (records.unpack(record["outcomes"]["test"][name], 200) for name in ("clean_accuracy", "robust_accuracy"))
    for changed, refused in ((5, False), (15, True)):  # a sign test: 5 of 5 is chance, 15 of 15 is not
        outcome = robust.clone()
        outcome[(clean & ~robust).nonzero().flatten()[:changed]] = True
        record["outcomes"]["test"]["robust_accuracy"] = records.pack(outcome)
        record["metrics"]["test"]["robust_accuracy"] = outcome.double().mean().item()
        file.write_text(json.dumps(record))
        if refused:
            with pytest.raises(
                records.RecordError,
                match=r"on 200 images robust_accuracy is .*; 0 images are robust only now, 15 only in the record",
            ):
                checking.check_kept(RUN)
        else:
            checking.check_kept(RUN)
    assert file.exists()


def test_weights_that_are_written_later_are_attacked_too(recorded, digits, monkeypatch):
    _attacked(recorded, digits, monkeypatch)
    checkpoints.save_tensors(material.checkpoint_folder(RUN) / "weights.safetensors", recorded.state_dict(), {"key": RUN.key})
    asked = []
    monkeypatch.setattr(checking, "check_kept", asked.append)
    assert checking.keep_weights(RUN)
    assert not checking.keep_weights(RUN)
    assert asked == [RUN]


@pytest.fixture
def committed(monkeypatch) -> list[Run]:
    """The runs whose weights are in the repository."""
    monkeypatch.setenv("RESULTS_DIR", str(COMMITTED.parent))
    return _committed()


def _committed() -> list[Run]:
    runs = []
    for file in sorted(COMMITTED.rglob("*.safetensors")):
        scale, *key = file.relative_to(COMMITTED).with_suffix("").parts
        runs.append(Run.parse("/".join(key), scale))
    return runs


def test_committed_weights_are_those_of_committed_records(committed):
    assert committed
    assert sum(weights.path(run).stat().st_size for run in committed) <= 40e6
    for run in committed:
        assert records.status(run, "training") == "recorded", run
        weights.load(run)


@pytest.mark.parametrize("run", _committed(), ids=str)
def test_committed_weights_give_their_records(run, monkeypatch, request):
    """Attacked anew, on some of the images: predictions and outcomes are those of the record, but for rounding."""
    request.getfixturevalue("real_jpeg" if run.dataset == "cifar10-jpeg" else "real_data")
    monkeypatch.setenv("RESULTS_DIR", str(COMMITTED.parent))
    checking.check_kept(run, images=100 if run.dataset.startswith("cifar10") else 300)


def test_the_books_attack_on_them_works_as_written(committed, real_data):
    page = (records.ROOT / "book" / "reproduce.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from lib import attacks.*?)```", page, re.DOTALL)
    names = {}
    exec(code, names)
    recorded = records.read(names["run"], "pgd")["metrics"]["test"]["robust_accuracy"]
    assert abs(names["survived"].item() - recorded) < 0.06  # 500 images, and 100 steps in place of 40
