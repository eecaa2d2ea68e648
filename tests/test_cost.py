"""What a run costs: operations counted by hand."""

import pytest
import torch

from lib import cost, grid


def lenet5_products(w: float) -> tuple[int, int]:
    """Multiply-adds of one image through LeNet5, and those of its first layer alone."""
    a, b, c = int(32 * w), int(64 * w), int(1024 * w)
    first = 28 * 28 * 25 * a
    return first + 14 * 14 * 25 * a * b + 49 * b * c + c * 10, first


@pytest.mark.parametrize("w", [0.125, 1.0, 2.0])
def test_operations_of_lenet5(w):
    products, first = lenet5_products(w)
    found = cost.per_image("lenet5", w)
    assert found.forward == 2 * products
    assert found.image_step == 2 * 2 * products
    assert found.training_step == 2 * (3 * products - first)  # the image itself needs no gradient


def test_operations_of_a_pgd_run_at_the_papers_settings():
    run = grid.Run.parse("mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed0", "paper")
    products, first = lenet5_products(1)
    training = 100_000 * 50 * (40 * 4 * products + 2 * (3 * products - first))
    evaluation = 20_000 * (2 * 2 * products + 40 * 4 * products)
    assert cost.flops(run) == training + evaluation


def test_every_step_of_every_restart_is_counted():
    run = grid.Run.parse("mnist/smooth-5/lenet5-w1/pgd/n60000/default/seed0", "paper")
    paper = grid.Run.parse("mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed0", "paper")
    products, _ = lenet5_products(1)
    attack = grid.evaluation_settings(run, "pgd-worst-case")["threat_model"]
    steps = attack["num_steps"] * attack["restarts"]
    assert cost.flops(run) - cost.flops(paper) == 20_000 * (2 * 2 * products + steps * 4 * products)


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
