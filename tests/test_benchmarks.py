"""The benchmark runs and compares like with like; the README tells its record truthfully."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib import attacks, training
from lib.fast.vectors import FEATURES, has_avx2
from lib.report.sections import engines, speed
from lib.report.table import MISSING
from lib.store import grid, results

ROOT = Path(__file__).resolve().parents[1]


def test_every_installed_engine_takes_the_same_steps(tmp_path):
    """What begins after its time is left out, so that `make gpu` ends within ten minutes on a slow card too."""
    target = tmp_path / "record.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "pgd.py"), "--case", "lenet5-w0.125"]
    done = subprocess.run(
        [*command, "--minutes", "0", "--output", target], capture_output=True, text=True, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"lenet5-w0.125 +128 left out: the 0 minutes are over", done.stdout)
    rows = {row["engine"]: row for row in json.loads(target.read_text())["rows"]}
    has_bfloat16 = FEATURES.get("avx512bf16") or FEATURES.get("amx-bf16")
    assert {"lib, float32", "plain loop", "AdverTorch"} | ({"lib, bfloat16"} if has_bfloat16 else set()) <= set(rows)
    accuracies = {row["robust_accuracy"] for name, row in rows.items() if name != "lib, bfloat16"}
    # The same steps but for the order of sums: at most one image of the fifty may end on the other side.
    assert max(accuracies) - min(accuracies) < 1.5 / 50
    assert 0 < min(accuracies) < 1
    for row in rows.values():
        assert 0.29 < row["max_delta"] < 0.3 + 1e-6
        assert row["image_steps_per_second"] > 0
        assert (row["batch"], row["rounds"]) == (50, 2)


def test_a_wrong_case_is_refused():
    command = [sys.executable, str(ROOT / "benchmarks" / "pgd.py"), "--case", "resnet50"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "unknown case resnet50" in re.sub(r"\s+", " ", done.stderr)


@pytest.mark.parametrize("engine", ["compiled", "framework"])
def test_each_training_of_a_pair_has_its_own_engine(monkeypatch, engine):
    if engine == "compiled" and not has_avx2():
        pytest.skip("a processor without AVX2 takes the framework's way")
    specification = importlib.util.spec_from_file_location("engines", ROOT / "benchmarks" / "engines.py")
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    engines_used = []

    def train(model, x, y, **settings) -> training.Training:
        engines_used.append(attacks.engine_of(model, x[:1]))
        return training.Training({}, 1.5)

    monkeypatch.setattr(training, "train", train)
    run = next(item for item in grid.runs("table-2", "smoke") if item.model == "lenet5" and item.training == "pgd")
    accuracy, seconds = benchmark.trained(run, engine, 20)
    assert 0 <= accuracy <= 100
    assert seconds == 1.5
    assert engines_used == [engine]


def test_the_readme_names_the_ratios_of_the_record():
    rows = results.benchmark("pgd-cpu")
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert f"On one core ({rows.attrs['device']}), compared with AdverTorch" in readme
    ours = rows[rows["engine"] == "lib, float32"]
    narrow = ours["case"].isin(["lenet5-w0.125", "lenet5-w0.25", "lenet5-w0.5", "wide_resnet28-w0.25"])
    assert set(ours.loc[~narrow, "case"]) == {"lenet5-w1", "wide_resnet28-w1"}
    for kind, rows_of_kind in (("narrow", ours[narrow]), ("wide", ours[~narrow])):
        ratios = rows_of_kind["ratio_to_advertorch"]
        assert f"{ratios.min():.1f} to {ratios.max():.1f} times as fast on {kind} networks" in readme, (
            f"{kind}: {ratios.min():.1f} to {ratios.max():.1f}"
        )


def test_engines_of_a_training_step_take_the_same_step(tmp_path):
    if not has_avx2():
        pytest.skip("a processor without AVX2 takes the framework's way")
    target = tmp_path / "steps.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "training_step.py"), "--widen-factor", "0.0625", "--rounds", "1"]
    subprocess.run([*command, "--batch-size", "16", "--output", str(target)], check=True, capture_output=True)
    rows = pd.DataFrame(json.loads(target.read_text())["rows"])
    assert set(rows["engine"]) == {"compiled", "channels last", "plain"}
    assert set(rows["training"]) == {"standard", "pgd"}
    assert rows["first_losses_apart"].max() < 1e-4
    assert (rows["seconds_a_step"] > 0).all()
    assert rows.loc[rows["engine"] == "channels last", "ratio_to_framework"].eq(1).all()


def test_the_record_of_training_steps_is_told():
    rows = results.benchmark("training-step")
    assert rows["rounds"].min() >= 7
    assert rows["first_losses_apart"].max() < 1e-3
    table = engines.steps_table(rows)
    assert len(table.rows) == rows.groupby(["case", "training"]).ngroups
    ratios = rows[(rows["engine"] == "compiled") & (rows["training"] == "pgd")]["ratio_to_framework"]
    assert f"{ratios.min():.1f} to {ratios.max():.1f} times in PGD training" in engines.steps_summary(rows)
    readme = (ROOT / "README.md").read_text()
    assert rows["case"].iloc[-1].endswith("w0.5")
    for kind, name in (("standard", "standard"), ("pgd", "PGD")):
        ratios = rows[(rows["engine"] == "compiled") & (rows["training"] == kind)]["ratio_to_framework"]
        assert f"{ratios.min():.1f} to {ratios.max():.1f} times in {name} training" in readme


def test_an_attack_that_fools_nobody_is_named():
    rows = results.benchmark("pgd-cpu")
    broken = rows["case"].eq("lenet5-w0.25") & rows["engine"].eq("lib, bfloat16")
    rows.loc[broken, "robust_accuracy"] = 0.99
    said = engines.agreement_summary(rows)
    assert said.startswith("**These attacks did not work**")
    assert said.count("bfloat16 on ") == 2
    table = speed.speed_table(rows).text.set_index(["network", "batch"])
    assert set(table.loc["lenet5 w=0.25", "lib, bfloat16"]) == {"the attack fails"}
    assert (table["lib, float32"] != "the attack fails").all()
    rows.loc[broken, "robust_accuracy"] = 0.19
    assert engines.agreement_summary(rows).startswith("No engine leaves more images than AdverTorch")


def test_the_record_covers_peers_batches_and_networks():
    rows = results.benchmark("pgd-cpu")
    assert set(rows["engine"]) >= {"lib, float32", "before", "AdverTorch", "torchattacks", "Foolbox", "ART"}
    assert set(rows["batch"]) == {50, 128}
    assert rows["rounds"].min() >= 7
    table = speed.speed_table(rows).text
    assert len(table) == rows["case"].nunique() * 2
    assert not (table == MISSING).any(axis=None)
    assert len(engines.agreement_table(rows).rows) == rows["case"].nunique() * rows["engine"].nunique()
    assert speed.speed_figure(rows).axes
    (narrow,) = rows[
        (rows["case"] == "wide_resnet28-w0.25") & (rows["batch"] == 128) & (rows["engine"] == "lib, float32")
    ].index
    assert f"{rows['ratio_to_before'][narrow]:.1f} times the earlier engine" in speed.speed_summary(rows)
    assert rows.attrs["before"] in speed.benchmark_stamp(rows)
