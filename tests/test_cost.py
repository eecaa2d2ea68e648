"""What a run costs: operations counted by hand."""

from types import SimpleNamespace

import pytest
import torch

from lib import models
from lib.run import cost
from lib.store import grid, plans


def lenet5_products(w: float) -> tuple[int, int]:
    """Multiply-adds of one image through LeNet5, and those of its first layer alone."""
    a, b, c = int(32 * w), int(64 * w), int(1024 * w)
    first = 28 * 28 * 25 * a
    return first + 14 * 14 * 25 * a * b + 49 * b * c + c * 10, first


@pytest.mark.parametrize("w", [0.125, 1.0, 2.0])
def test_operations_of_lenet5(w):
    products, first = lenet5_products(w)
    operations = cost.per_image("lenet5", w)
    assert operations.forward == 2 * products
    assert operations.image_step == 2 * 2 * products
    assert operations.training_step == 2 * (3 * products - first)  # the image itself needs no gradient


def test_operations_of_a_pgd_run_at_the_papers_settings():
    run = grid.Run.parse("mnist/smooth-3/lenet5-w2/pgd/n60000/default/seed0", "paper")  # no attack but the paper's
    products, first = lenet5_products(2)
    training = 100_000 * 50 * (40 * 4 * products + 2 * (3 * products - first))
    evaluation = 20_000 * (2 * 2 * products + 40 * 4 * products)
    assert cost.flops(run) == training + evaluation


def test_every_step_of_every_restart_and_budget_is_counted(monkeypatch):
    run = grid.Run.parse("mnist/original/lenet5-w1/pgd/n60000/default/seed0", "paper")
    products, _ = lenet5_products(1)

    def with_only(*names):
        monkeypatch.setattr(plans, "_needed", lambda run, shown_by: names)
        return cost.flops(run) - none

    none = 0
    none = with_only()
    for name, images, steps in (
        ("pgd-worst-case", 20_000, 3 * 80),
        ("pgd-1000", 1000, 1000),
        ("pgd-restarts", 1000, 10 * 100),
        ("eps-curve", 1000, 40 * len(plans.of(run).evaluation("eps-curve").settings["eps"])),
    ):
        assert with_only(name) == images * (2 * 2 * products + steps * 4 * products), name
    changes = len(plans.of(run).evaluation("changed-weights").settings["changes"])
    assert with_only("changed-weights") == 1000 * changes * (2 * 2 * products + 40 * 4 * products)
    # APGD once and for each of 9 targets, FAB for each as well, which asks for a prediction at each step; and Square.
    assert with_only("autoattack") == 1000 * (1900 * 4 * products + (900 + 5000) * 2 * products)
    assert with_only("square") == 1000 * 3 * 5000 * 2 * products


def test_standard_training_crafts_nothing_and_measuring_is_free():
    standard, pgd = grid.runs("table-2", "smoke")[:2]
    assert 0 < cost.flops(standard) < cost.flops(pgd)
    assert cost.flops(grid.runs("figure-1a", "smoke")[0]) == 0


def test_table_counts_a_shared_run_once_and_divides_by_the_speed():
    listed = {name: grid.runs(name, "smoke") for name in ("table-2", "footprints")}
    table = cost.table(listed, torch.device("cpu"), speed=1e9).set_index("exhibit")
    keys = {item.key for items in listed.values() for item in items}
    assert table.loc["all", "runs"] == len(keys) < sum(map(len, listed.values()))
    assert table.loc["all", "hours, float32"] == pytest.approx(table.loc["all", "operations"] / 1e9 / 3600)


def test_throughput_is_measured_when_none_is_given():
    table = cost.table({"table-2": grid.runs("table-2", "smoke")[:1]}, torch.device("cpu"))
    assert (table[["hours, float32", "hours, bfloat16"]] > 0).all(axis=None)


def small_convnet_products(channels: int, size: int) -> tuple[int, int]:
    """Multiply-adds of one image through the LP-robust model's network at the paper's width, and those of its first layer."""
    first = (size // 2) ** 2 * 16 * channels * 16
    return first + (size // 4) ** 2 * 16 * 16 * 32 + (size // 4) ** 2 * 32 * 100 + 100 * 10, first


@pytest.mark.parametrize(("dataset", "channels", "size"), [("mnist", 1, 28), ("cifar10", 3, 32)])
def test_operations_of_the_small_convnet_are_those_of_its_images(dataset, channels, size):
    (run, *_) = grid.runs("section-2.2" if dataset == "mnist" else "section-2.2-cifar10", "paper")
    products, first = small_convnet_products(channels, size)
    operations = cost.per_image(**cost.network(run))
    assert operations.forward == 2 * products
    assert operations.training_step == 2 * (3 * products - first)


def test_bounds_of_a_linear_network_are_counted_by_hand(monkeypatch):
    """The ten differences of logits times W, their product with the image, and one prediction, which tells the shapes."""

    def linear(*_, **__):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    monkeypatch.setitem(models.BUILDERS, "linear", linear)
    operations = cost.bounds_per_image("linear", 1.0, eps=0.1, boxed=False, proj=None, training=False)
    assert operations == 2 * (10 * 10 * 784 + 10 * 784 + 784 * 10)


def test_lp_training_costs_its_bounds():
    exact, estimated = (grid.runs("section-2.2", scale)[0] for scale in ("paper", "laptop"))
    steps = {run: plans.of(run).settings["training"]["steps"] * 50 for run in (exact, estimated)}
    plain = cost.per_image("small_convnet", 1.0, in_channels=1, image_size=28).training_step
    assert cost.flops(estimated) / steps[estimated] > 10 * plain
    assert cost.flops(exact) / steps[exact] > 100 * plain


def test_the_ramp_costs_its_queries():
    run = grid.runs("exact-certificate", "smoke")[0]
    image = cost.per_image(run.model, run.widen_factor)
    settings = plans.of(run).settings["training"]
    training = settings["steps"] * settings["batch_size"] * image.training_step
    clean = 300 * 2 * image.forward
    ramp = 70 * (3 * (2 * image.forward + 40 * image.image_step) + image.image_step + 6 * 20 * image.forward)
    assert cost.flops(run) == training + clean + ramp


# --- what a GPU takes ---------------------------------------------------------------------------------------------------


def test_a_step_takes_as_long_as_the_slowest_of_its_ceilings():
    step = cost.Step(launches=100, fixed=1000.0, image=50.0)
    launched = 100 * cost.LAUNCH
    assert step.seconds(10.0, 8) == step.seconds(10.0, 8, members=9) == pytest.approx(launched)
    assert step.seconds(1e12, 8, members=3) == pytest.approx(24e12 / cost.ASSUMED)
    assert step.seconds(1e12, 8, members=3, speed=1e12) == pytest.approx(24)
    assert cost.Step(1, 1e12, 1e9).seconds(1.0, 8, members=2) == pytest.approx(2 * (1e12 + 8e9) / cost.MEMORY)


@pytest.mark.parametrize("w", [0.25, 1.0])
def test_launches_and_traffic_of_lenet5(w):
    """Of a step of the attack: what a profiler of the framework's operations lists, and each weight read at least twice."""
    attack, train = cost.steps("lenet5", w)
    network = models.lenet5(w)
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert 20 <= attack.launches <= 40
    assert 20 <= train.launches <= 60
    assert 1.9 * weights < attack.fixed < 2.5 * weights
    assert 2.9 * weights < train.fixed < 4 * weights  # and a gradient written
    assert 0 < train.image < 4 * attack.image
    # Each activation of the first layer, the largest, is written, pooled, and comes back as a gradient.
    assert 4 * 3 * 28 * 28 * int(32 * w) < attack.image < 4 * 20 * 28 * 28 * int(32 * w)
    assert cost.steps("lenet5", w) is cost.steps("lenet5", w)


def test_numbers_of_a_network():
    weights, kept = cost.numbers("lenet5", 0.25)
    assert weights == sum(parameter.numel() for parameter in models.lenet5(0.25).parameters())
    # Of each image, besides what is smaller: the first layer's activations and, four times fewer, what pooling and ReLU keep.
    first, second = 8 * 28 * 28, 16 * 14 * 14
    assert first + second < kept < 3 * (first + second)
    assert cost.numbers("lenet5", 0.5)[1] < 2.2 * kept  # not the weights, which grow fourfold


def test_a_narrow_network_waits_for_launches_and_a_wide_one_computes():
    narrow, wide = (
        grid.Run.parse(key, "paper")
        for key in (
            "mnist/original/lenet5-w0.125/pgd/n60000/default/seed0",
            "cifar10/original/wide_resnet28-w4/pgd/n50000/default/seed0",
        )
    )  # fmt: skip
    assert cost.training_seconds(narrow) > 10 * cost._training_flops(narrow) / cost.ASSUMED
    assert cost.training_seconds(narrow, members=10) == pytest.approx(cost.training_seconds(narrow), rel=0.5)
    assert cost.training_seconds(wide) == pytest.approx(cost._training_flops(wide) / cost.ASSUMED, rel=0.2)
    assert cost.evaluation_seconds(wide) >= cost._evaluation_flops(wide) / cost.ASSUMED


@pytest.mark.parametrize(
    ("key", "shares"),
    [
        ("mnist/original/lenet5-w1/pgd/n60000/default/seed0", True),
        ("mnist/original/lenet5-w4/pgd/n60000/default/seed0", False),
        ("cifar10/original/wide_resnet28-w4/pgd/n50000/default/seed0", False),
        ("mnist/original/small_convnet-w1/lp/n60000/default/seed0", False),  # exact bounds
    ],
)
def test_small_networks_share_a_gpu(key, shares):
    assert cost.shares_a_gpu(grid.Run.parse(key, "paper")) == shares


def test_a_plan_counts_the_drawing_of_batches():
    """A step of standard training is soon over: for many runs the processor's share is the longer one."""
    run = grid.Run.parse("mnist/original/lenet5-w0.125/standard/n60000/default/seed0", "paper")
    steps = plans.of(run).settings["training"]["steps"]
    assert cost.training_seconds(run) / steps > cost.DRAW
    assert cost.training_seconds(run, members=50) / steps == pytest.approx(50 * cost.DRAW)


def test_a_fused_attack_saves_launches_and_no_operations():
    run = grid.Run.parse("mnist/original/lenet5-w0.125/pgd/n60000/default/seed0", "paper")
    attack, train = cost.steps("lenet5", 0.125)
    operations = 50 * 40 * cost.per_image("lenet5", 0.125).image_step / cost.ASSUMED
    alone = (40 * attack.launches + train.launches) * cost.LAUNCH / (operations + train.launches * cost.LAUNCH)
    assert cost.fused_gain(run, members=1) == pytest.approx(alone)
    many = [cost.fused_gain(run, members=members) for members in (1, 10, 100)]
    assert many == sorted(many, reverse=True)
    assert 1 <= many[-1] < 1.5


def test_what_the_first_attack_prepares_is_no_part_of_the_throughput(monkeypatch):
    """A capture, a compilation: seconds that `make cost` must not count."""
    calls, clock = [], [0.0]

    def pgd(*_, **__):
        calls.append(None)
        clock[0] += 300 if len(calls) == 1 else 0.25

    monkeypatch.setattr(cost.attacks, "pgd", pgd)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    throughput = cost.throughput("lenet5", 0.125, "float32", torch.device("cpu"), batch_size=8, seconds=1.0)
    assert len(calls) == 5
    assert throughput == 4 * 4 * 8 * cost.per_image("lenet5", 0.125).image_step  # four attacks of four steps in a second
