"""Runs that are trained together: which, how many, what they leave, and how long a grid of them takes."""

import logging
from dataclasses import replace

import pytest
import stored
import torch

from lib import training
from lib.run import cost, groups, material, processes
from lib.store import grid, plans, records
from lib.store.grid import Run

PGD = Run.parse("mnist/original/lenet5-w0.125/pgd/n4000/default/seed0", "smoke")
RUNS = [PGD, replace(PGD, transform="binarize"), replace(PGD, seed=1)]


def paper(key: str) -> Run:
    return Run.parse(key, "paper")


def test_runs_of_one_shape_go_together():
    """Other variants, seeds and data sets of the same shape; not other widths, sizes, recipes or kinds of training."""
    first = paper("mnist/original/lenet5-w1/pgd/n60000/default/seed0")
    same = [replace(first, transform="binarize"), replace(first, seed=3), replace(first, dataset="fashion_mnist")]
    other = [
        replace(first, widen_factor=0.5), replace(first, train_size=1000), replace(first, recipe="weight-decay-.002"),
        replace(first, training="standard"),
    ]  # fmt: skip
    groups_made = groups.groups([first, *other, *same], 1e12)
    assert groups_made == [[first, *same], *([run] for run in other)]


@pytest.mark.parametrize(
    "key",
    [
        "cifar10/original/wide_resnet28-w4/pgd/n50000/default/seed0",  # fills a card
        "mnist/original/lenet5-w1/pgd/n60000/bfloat16/seed0",
        "mnist/original/small_convnet-w1/lp/n60000/default/seed0",
    ],
)
def test_what_goes_alone(key):
    assert groups.shape(paper(key)) is None
    assert groups.groups([paper(key), replace(paper(key), seed=1)], 1e15) == [[paper(key)], [replace(paper(key), seed=1)]]


def test_a_group_is_as_large_as_the_memory():
    first = paper("mnist/original/lenet5-w1/pgd/n60000/default/seed0")
    runs = [replace(first, seed=seed) for seed in range(7)]
    each = groups.memory(first)
    assert each > 4 * 60000 * 784  # the images alone
    assert list(map(len, groups.groups(runs, 3.5 * each))) == [3, 3, 1]
    assert list(map(len, groups.groups(runs, 0.5 * each))) == [1] * 7  # tried all the same
    assert groups.memory(replace(first, widen_factor=0.25)) < each


def test_several_gpus_get_smaller_groups_of_wider_networks():
    """A narrow network waits for its launches, so that a group takes no longer; a wider one computes."""
    sizes = {}
    for width in (0.125, 0.25, 1.0):
        first = Run.parse(f"mnist/original/lenet5-w{width:g}/pgd/n60000/default/seed0", "paper")
        runs = [replace(first, seed=seed) for seed in range(10)]
        assert list(map(len, groups.groups(runs, 1e12))) == [10]
        groups_made = groups.groups(runs, 1e12, spread=True)
        sizes[width] = len(groups_made[0])
        assert groups.hours(groups_made[0]) <= 2.01 * groups.hours([first]) + cost.evaluation_seconds(first) * 10 / 3600
    assert sizes[0.125] > sizes[0.25] > sizes[1.0]


def test_a_schedule_by_hand(monkeypatch):
    """Five runs of 5, 4, 3, 3 and 1 hours, the longest first: two GPUs take 5 + 3 and 4 + 3 + 1."""
    items = [run for run in grid.all_runs("paper") if isinstance(run, Run) and groups.shape(run) is None][:5]
    hours = dict(zip(items, (3, 4, 1, 5, 3), strict=True))
    monkeypatch.setattr(groups, "hours", lambda group: sum(hours[run] for run in group))
    rows = groups.schedule([*items, *grid.runs("figure-1a", "paper")], gpus=(1, 2, 8))
    assert list(rows["gpus"]) == [1, 2, 8]
    assert list(rows["wall_hours"]) == pytest.approx([16, 8, 5])
    assert list(rows["busy"]) == pytest.approx([1, 1, 16 / 8 / 5])
    for name, value in {"gpu_hours": 16, "alone_hours": 16, "runs": 5, "groups": 5, "critical_hours": 5}.items():
        assert set(rows[name]) == {value}
    assert set(rows["critical"]) == {str(items[3])}
    assert set(rows["narrow_alone_hours"]) == {0}


def test_a_schedule_keeps_its_bounds():
    """Never below the longest group nor the work shared evenly; nor above what Graham (1966) proves of any list of jobs."""
    listed = grid.runs("figure-4-capacity-mnist", "paper")
    rows = groups.schedule(listed, gpus=(1, 2, 3, 8, 64))
    assert rows["groups"].iloc[0] < rows["runs"].iloc[0]
    assert rows["gpu_hours"].iloc[0] < rows["alone_hours"].iloc[0]
    assert rows["narrow_hours"].iloc[0] < 0.5 * rows["narrow_alone_hours"].iloc[0]
    for _, row in rows.iterrows():
        even, longest = row["gpu_hours"] / row["gpus"], row["critical_hours"]
        assert max(longest, even) <= row["wall_hours"] * (1 + 1e-9)
        assert row["wall_hours"] <= (even + (1 - 1 / row["gpus"]) * longest) * (1 + 1e-9)


def test_a_schedule_of_nothing_is_refused():
    with pytest.raises(ValueError, match="gpus must be ≥ 1, given 0"):
        groups.schedule(grid.runs("table-2", "smoke"), gpus=(0,))


def test_a_measurement_takes_no_gpu():
    assert groups.hours(grid.runs("figure-1a", "smoke")[:1]) == 0
    assert cost.flops(grid.runs("figure-1a", "smoke")[0]) == 0


# --- the grid, grouped on a processor as it is on a GPU -----------------------------------------------------------------


@pytest.fixture
def grouped(monkeypatch, tmp_path) -> list[int]:
    """A small grid of its own, where runs are trained together; the sizes of the groups that were."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    lenet5 = grid.spec()["scales"]["smoke"]["models"]["lenet5"]
    for name, value in {"steps": 12, "batch_size": 16}.items():
        stored.declare(monkeypatch, lenet5, name, value)
    stored.declare(monkeypatch, grid.spec()["evaluations"]["pgd"]["attack"], "num_steps", 1)
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)
    monkeypatch.setattr(plans, "_needed", lambda run, shown_by: ("pgd",))
    monkeypatch.setattr(groups, "DEVICES", ("cuda", "cpu"))
    sizes, together = [], training.train_together

    def counted(members, **keywords):
        sizes.append(len(members))
        return together(members, **keywords)

    monkeypatch.setattr(training, "train_together", counted)
    return sizes


def test_a_group_leaves_each_runs_own_records(grouped, caplog):
    caplog.set_level(logging.INFO)
    assert processes.complete(RUNS, "cpu") == 3
    assert grouped == [3]
    assert f"3 of 3: {PGD} and 2 trained together with it" in caplog.text
    kept = []
    for run in RUNS:
        assert [records.status(run, name) for name in ("training", "pgd")] == ["recorded", "recorded"]
        record = records.read(run, "training")
        assert (record["key"], record["together"]) == (run.key, 3)
        assert record["curve"]["step"] == list(range(1, 13))
        kept.append(records.read(run, "pgd")["weights"])
        assert record["weights"] == kept[-1]
        assert {path.name for path in material.checkpoint_folder(run).iterdir()} == {"weights.safetensors", "lock"}
    assert len(set(kept)) == 3
    assert processes.complete(RUNS, "cpu") == 0
    assert grouped == [3]


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_group_goes_on(grouped, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    rate, steps = training.learning_rate, []

    def killed(step, **keywords):
        steps.append(step)
        if steps == list(range(8)):
            raise Killed
        return rate(step, **keywords)

    monkeypatch.setattr(training, "learning_rate", killed)
    with pytest.raises(Killed):
        processes.complete(RUNS, "cpu")
    assert all(records.missing(run) for run in RUNS)
    assert processes.complete(RUNS, "cpu") == 3
    assert steps == [*range(8), *range(7, 12)]
    assert grouped == [3, 3]
    assert not any(records.missing(run) for run in RUNS)


def test_a_member_that_fails_is_recorded_and_the_rest_go_on(grouped, monkeypatch, caplog):
    new_model = material.new_model

    def broken(run, device):
        model = new_model(run, device)
        if run == RUNS[1]:
            with torch.no_grad():
                model[-1].bias.fill_(float("nan"))
        return model

    monkeypatch.setattr(material, "new_model", broken)
    assert processes.complete(RUNS, "cpu") == 3
    states = [[records.status(run, name) for name in ("training", "pgd")] for run in RUNS]
    assert states == [["recorded"] * 2, ["failed"] * 2, ["recorded"] * 2]
    assert "non-finite loss" in records.read(RUNS[1], "training")["failed"]
    assert f"{RUNS[1]} failed and is recorded as failed" in caplog.text
    assert processes.complete(RUNS, "cpu") == 0


def test_what_is_trained_already_is_only_evaluated(grouped):
    processes.complete(RUNS[:1], "cpu")
    for name in ("pgd",):
        records.path(PGD, name).unlink()
    assert processes.complete(RUNS, "cpu") == 3
    assert grouped == [1, 2]  # a run alone, then the other two
    assert not any(records.missing(run) for run in RUNS)
    assert "together" not in records.read(PGD, "training")


def test_on_a_processor_runs_go_alone(grouped, monkeypatch):
    monkeypatch.setattr(groups, "DEVICES", ("cuda",))
    assert processes.complete(RUNS[:2], "cpu") == 2
    assert grouped == [1, 1]


def test_a_group_that_does_not_fit_is_halved(grouped, monkeypatch, caplog):
    """Memory is an estimate. What was trained before goes on from its checkpoints."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    rate, steps = training.learning_rate, []

    def full(step, **keywords):
        steps.append(step)
        if step == 5 and len(grouped) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return rate(step, **keywords)

    monkeypatch.setattr(training, "learning_rate", full)
    assert processes.complete(RUNS, "cpu") == 3
    assert grouped == [3, 1, 2]
    assert steps == [*range(6), *range(5, 12), *range(5, 12)]
    assert "3 runs together do not fit into the memory of cpu: half of them at a time" in caplog.text
    assert not any(records.missing(run) for run in RUNS)


def test_a_run_that_does_not_fit_is_an_error(grouped, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "learning_rate", full)
    with pytest.raises(MemoryError, match=f"{PGD} does not fit into the memory of cpu: CUDA out of memory"):
        processes.complete(RUNS, "cpu")
    assert grouped == [3, 1]
