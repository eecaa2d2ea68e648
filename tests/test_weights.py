"""Weights that are kept for a doubter: which, how large, and that they are those of the records."""

import re
from dataclasses import replace

import pytest
import stored
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lib import data, experiments, grid, models, results, training, weights
from lib.grid import Run

RUN = Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
COMMITTED = results.ROOT / "results" / "weights"


@pytest.fixture
def recorded(trained) -> torch.nn.Module:
    """A network that stands for the trained one of `RUN`, and a record of its training."""
    model = models.build("lenet5", 0.25).eval()
    stored.write(RUN, "training", weights=weights.digest(model))
    return model


def test_what_is_kept_is_the_network_to_half_precision(recorded, digits):
    assert weights.keep(RUN, recorded)
    found = weights.load(RUN)
    assert not found.training
    for name, value in recorded.state_dict().items():
        assert torch.equal(found.state_dict()[name], value.half().float()), name
    x = digits[0][:100]
    torch.testing.assert_close(found(x), recorded(x), atol=1e-2, rtol=1e-2)
    assert weights.path(RUN).stat().st_size < 2.2 * sum(value.numel() for value in recorded.parameters())


def test_what_is_kept_is_not_written_again(recorded):
    assert weights.keep(RUN, recorded)
    assert not weights.keep(RUN, recorded)
    weights.path(RUN).write_bytes(b"half of it")
    assert weights.keep(RUN, recorded)


def test_a_run_keeps_its_weights_when_it_is_found_trained(recorded):
    assert not experiments.keep_weights(RUN)  # there is no checkpoint
    folder = experiments.checkpoint_folder(RUN)
    training.save_tensors(folder / "weights.safetensors", recorded.state_dict(), {"key": RUN.key})
    assert experiments.keep_weights(RUN)
    assert not experiments.keep_weights(RUN)
    assert weights.path(RUN).exists()


def test_weights_of_another_training_are_not_kept(recorded):
    folder = experiments.checkpoint_folder(RUN)
    training.save_tensors(folder / "weights.safetensors", models.build("lenet5", 0.25).state_dict(), {"key": RUN.key})
    assert not experiments.keep_weights(RUN)


@pytest.mark.parametrize(
    "change",
    [{"training": "standard"}, {"seed": 1}, {"widen_factor": 0.5}, {"scale": "paper"}, {"recipe": "short"}],
    ids=lambda change: next(iter(change)),
)
def test_other_runs_keep_none(recorded, change):
    other = replace(RUN, **change)
    assert not grid.keeps_weights(other)
    assert not weights.keep(other, recorded)
    assert not weights.path(other).exists()


def test_weights_that_are_not_the_records_are_refused(recorded):
    weights.keep(RUN, recorded)
    stored.write(RUN, "training", weights="0123456789ab")
    with pytest.raises(
        results.RecordError, match=r"is of another training than the record of laptop: mnist/original/.*; delete it"
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
    tensors, _ = training.load_tensors(file, "cpu")
    if not digest:
        del metadata["digest"]
    changed = {**ALTERED, **LIKELY}[damage](tensors)
    save_file({name: value.contiguous() for name, value in changed.items()}, file, metadata)
    with pytest.raises(results.RecordError, match=re.escape(str(file))) as error:
        weights.load(RUN)
    assert str(error.value).isprintable()
    assert "delete it" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"half of it", b"{" * 1000])
def test_a_file_that_holds_no_weights_is_refused_in_one_line(recorded, content):
    weights.keep(RUN, recorded)
    weights.path(RUN).write_bytes(content)
    with pytest.raises(results.RecordError, match="is not a readable checkpoint") as error:
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


def test_all_that_is_to_be_kept_is_at_most_ten_megabytes():
    kept = [run for run in grid.all_runs("laptop", stretches=True) if isinstance(run, Run) and grid.keeps_weights(run)]
    assert len(kept) > 20
    sizes = []
    for run in kept:
        with torch.device("meta"):
            model = models.build(**grid.settings(run)["model"])
        sizes.append(2 * sum(value.numel() for value in model.state_dict().values()) + 10_000)  # and the file's header
    assert sum(sizes) <= 10e6


@pytest.fixture
def committed(monkeypatch) -> list[Run]:
    """The runs whose weights are in the repository."""
    monkeypatch.setenv("RESULTS_DIR", str(COMMITTED.parent))
    files = sorted(COMMITTED.rglob("*.safetensors"))
    return [Run.parse(str(file.relative_to(COMMITTED / "laptop").with_suffix("")), "laptop") for file in files]


def test_committed_weights_are_those_of_committed_records(committed):
    assert committed
    assert sum(weights.path(run).stat().st_size for run in committed) <= 10e6
    for run in committed:
        assert results.status(run, "training") == "recorded", run
        weights.load(run)


def test_committed_weights_classify_as_recorded(committed, real_data):
    """Half precision moves an image in a hundred at most across the boundary."""
    run = next(run for run in committed if run.dataset == "mnist" and run.transform == "original")
    record = results.read(run, "pgd")
    size = record["sizes"]["test"]
    correct = results.unpack(record["outcomes"]["test"]["clean_accuracy"], size)
    x, y, _ = data.transformed("mnist", "test", run.transform, size=size)
    with torch.inference_mode():
        found = torch.cat([weights.load(run)(part).argmax(1) for part in x.split(1000)]) == y
    assert (found != correct).double().mean() <= 0.01


def test_the_books_attack_on_them_works_as_written(committed, real_data):
    page = (results.ROOT / "book" / "reproduce.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from lib import attacks.*?)```", page, re.DOTALL)
    found = {}
    exec(code, found)
    recorded = results.read(found["run"], "pgd")["metrics"]["test"]["robust_accuracy"]
    assert abs(found["survived"].item() - recorded) < 0.06  # 500 images, and 100 steps in place of 40
