"""Exhibits of speed: the worst case, the precision of the training attack, and the schedule of a grid."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from frames import NO_RECORDS, PAPER, ROBUST, TABLE_4, frame

from lib import report
from lib.report.sections import sec3, speed
from lib.run import cost

WORST = ("pgd", "robust_accuracy_worst_case")


def test_the_worst_case_stands_beside_the_papers_attack():
    ours = frame(
        ("original", *ROBUST, 94.0, 0), ("original", *ROBUST, 95.0, 1), ("original", *WORST, 92.5, 0),
        ("smooth-5", *ROBUST, 80.0, 0), ("binarize", *ROBUST, 97.0, 0), ("binarize", *WORST, None, 0),
    )  # fmt: skip
    table = speed.worst_case_table({"MNIST": ours, "CIFAR10": NO_RECORDS}).text.set_index(["data set", "variant"])
    columns = ["robust: last iterate", "robust: worst case (Δ)"]
    assert table.loc[("MNIST", "original"), columns].tolist() == ["94.5", "92.5 (-1.5)"]  # over seed 0, which has both
    assert table.loc[("MNIST", "smooth 5"), columns].tolist() == ["80.0", "–"]
    assert table.loc[("MNIST", "binarized"), columns].tolist() == ["97.0", "stale"]
    assert table.loc[("CIFAR10", "original")].tolist() == ["–"] * 4
    assert table.loc[("MNIST", "original"), "w.r.t. pred.: worst case (Δ)"] == "–"


def test_no_other_exhibit_takes_the_worst_case_for_the_papers_attack():
    plain = frame(("original", *ROBUST, 94.0, 0))
    both = frame(("original", *ROBUST, 94.0, 0), ("original", *WORST, 50.0, 0))
    alone = frame(("original", *WORST, 50.0, 0))
    assert sec3.robustness_table(both, PAPER).text.equals(sec3.robustness_table(plain, PAPER).text)
    assert sec3.robustness_table(alone, PAPER).text.equals(sec3.robustness_table(frame(), PAPER).text)
    for exhibit in (sec3.robustness_figure(both, PAPER, xlabel=""), sec3.robustness_figure(alone, PAPER, xlabel="")):
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in exhibit.axes[0].lines])
        assert 50.0 not in drawn
    assert sec3.sensitivity_table({"MNIST": (both, PAPER, TABLE_4)}).text.equals(
        sec3.sensitivity_table({"MNIST": (plain, PAPER, TABLE_4)}).text
    )


@pytest.mark.parametrize(
    ("worst", "order"), [((96.0, 90.0, 75.0), "stays"), ((80.0, 90.0, 75.0), "changes")], ids=["same order", "another order"]
)
def test_what_is_seen_of_the_worst_case(worst, order):
    names = ("binarize", "original", "smooth-5")
    last = [(name, *ROBUST, value, 0) for name, value in zip(names, (97.0, 94.0, 80.0), strict=True)]
    found = [(name, *WORST, value, 0) for name, value in zip(names, worst, strict=True)]
    text = speed.worst_case_summary({"MNIST": frame(*last, *found), "CIFAR10": NO_RECORDS})
    lost = [a - b for a, b in zip((97.0, 94.0, 80.0), worst, strict=True)]
    assert f"{min(lost):.1f} points on" in text
    assert f"**{max(lost):.1f} points** on" in text
    assert f"the order of the variants {order}" in text
    assert "CIFAR10: not computed yet; compute it with `python -m lib run" in text
    single = speed.worst_case_summary({"MNIST": frame(last[1], found[1])})
    assert single == "MNIST (scale laptop): the stronger attack lowers robust accuracy by **4.0 points** on original."


def trained(*rows) -> pd.DataFrame:
    """Rows (transform, recipe, seed, robust accuracy); None is stale."""
    table = frame(*((transform, *ROBUST, value, seed) for transform, _, seed, value in rows))
    table["recipe"] = [recipe for _, recipe, _, _ in rows]
    return table


LOW, FULL = "short-bfloat16", "short"


def test_an_interval_of_a_mean_is_students():
    # By hand: mean 2, s.d. 1, three values: 2 ± 4.3027 / sqrt(3).
    mean, low, high = speed.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == (pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5), pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5))
    assert speed.mean_interval([5.0, 5.0]) == (5.0, 5.0, 5.0)
    for values in ([], [1.0]):
        with pytest.raises(ValueError, match=f"an interval needs at least two values, given {len(values)}"):
            speed.mean_interval(values)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        _, low, high = speed.mean_interval(list(generator.normal(0.3, 2.0, 5)))
        held += low <= 0.3 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_precisions_are_compared_within_a_seed():
    """Seeds differ by points and precisions by .1: unpaired, the interval would be many times as wide."""
    values, other = {0: 85.0, 1: 88.0, 2: 91.0}, {0: 85.0, 1: 88.1, 2: 91.2}
    ours = trained(
        *(("original", FULL, seed, value) for seed, value in values.items()),
        *(("original", LOW, seed, value) for seed, value in other.items()),
        ("original", LOW, 3, 10.0),  # has no counterpart
    )
    row = speed.precision_table(ours).text.set_index(["variant", "quantity"]).loc[("original", "robust accuracy")]
    assert row["seeds"] == "3"
    assert (row["float32: mean (s.d.)"], row["bfloat16: mean (s.d.)"]) == ("88.00 (3.00)", "88.10 (3.10)")
    assert (row["difference"], row["95% interval"]) == ("+0.10", "-0.15 to +0.35")
    seeds = speed.precision_seeds_table(ours).text
    assert seeds.to_numpy().tolist()[1:] == [
        ["original", "1", "88.00", "88.10", "+0.10"],
        ["original", "2", "91.00", "91.20", "+0.20"],
        ["original", "3", "–", "10.00", "–"],
    ]


def test_what_is_seen_of_the_precision():
    rows = [("original", FULL, seed, 88.0) for seed in range(3)]
    same = [("original", LOW, seed, 88.0 + change) for seed, change in enumerate((-0.1, 0.1, 0.2))]
    other = [("original", LOW, seed, 86.0 + change) for seed, change in enumerate((-0.1, 0.1, 0.2))]
    text = speed.precision_summary(trained(*rows, *same))
    assert "+0.07 points on original (95% interval -0.31 to +0.45, 3 seeds)" in text
    assert "on average" not in text  # one variant is its own average
    assert "**Every interval contains 0**" in text
    assert "in 2 of 3 pairs (two-sided sign test, if pairs were independent: p = 1)" in text
    text = speed.precision_summary(trained(*rows, *other))
    assert "-1.93 points on original" in text
    assert "The interval on original excludes 0: there the precision **did change the result**" in text
    assert "in 0 of 3 pairs (two-sided sign test, if pairs were independent: p = 0.25)" in text
    for few in (NO_RECORDS, trained(*rows), trained(*rows, same[0])):
        assert speed.precision_summary(few).startswith("Not computed yet: at least two seeds are needed in both precisions")


def test_variants_are_averaged_within_a_seed():
    """Over the variants of a seed the differences are 1, 2 and 3: three values, however many variants there are."""
    changes = {"original": (0.0, 2.0, 4.0), "smooth-5": (2.0, 2.0, 2.0)}
    rows = [(name, FULL, seed, 80.0) for name in changes for seed in range(4)]
    rows += [(name, LOW, seed, 80.0 + change) for name, each in changes.items() for seed, change in enumerate(each)]
    rows.append(("original", LOW, 3, 90.0))  # its other variant is missing
    table = speed.precision_table(trained(*rows)).text.set_index(["variant", "quantity"])
    average = table.loc[("all, averaged", "robust accuracy")]
    half = 4.302653 / 3**0.5
    assert (average["seeds"], average["difference"]) == ("3", "+2.00")
    assert average["95% interval"] == f"{2 - half:+.2f} to {2 + half:+.2f}"
    assert table.loc[("original", "robust accuracy"), "seeds"] == "4"
    text = speed.precision_summary(trained(*rows))
    assert f"+2.00 points on average (95% interval {2 - half:+.2f} to {2 + half:+.2f}, 3 seeds)" in text


def test_what_has_no_value_is_told_and_not_counted():
    ours = trained(
        ("original", FULL, 0, 88.0), ("original", FULL, 1, None), ("original", LOW, 0, 88.5), ("original", LOW, 1, 87.0)
    )  # fmt: skip
    row = speed.precision_table(ours).text.set_index(["variant", "quantity"]).loc[("original", "robust accuracy")]
    assert row["seeds"] == "1 (1 stale)"
    assert (row["difference"], row["95% interval"]) == ("–", "–")
    assert speed.precision_seeds_table(ours).text.to_numpy().tolist()[1] == ["original", "1", "stale", "87.00", "–"]
    for empty in (speed.precision_table(NO_RECORDS).text, speed.precision_seeds_table(NO_RECORDS).text):
        assert set(empty.iloc[:, 2:].to_numpy().ravel()) <= {"–", "0"}


def test_the_schedule_says_what_it_assumes():
    row = {"runs": 73, "groups": 40, "gpu_hours": 1950.4, "alone_hours": 2100.2, "critical_hours": 110.84}
    row |= {"critical": "paper: cifar10/original/w4/seed0", "narrow_hours": 0.34, "narrow_alone_hours": 1.56}
    rows = pd.DataFrame(
        [
            {"gpus": 1, "wall_hours": 1950.4, "busy": 1.0, **row},
            {"gpus": 64, "wall_hours": 110.84, "busy": 0.275, **row},
        ]
    )
    table = speed.schedule_table(rows).text
    assert table.iloc[0].tolist() == ["1", "73", "40", "1,950", "1,950.4", "100%", "110.8"]
    assert table.iloc[1].tolist() == ["64", "73", "40", "1,950", "110.8", "28%", "110.8"]
    said = speed.schedule_summary(rows)
    assert "All hours are estimates: no card has been timed yet" in said
    assert "10·10¹² operations a second in float32, 1.5·10¹² bytes a second" in said
    assert "2.5 millionths of a second a launch" in said
    assert "would take 2,100 GPU-hours instead of 1,950. LeNet5 with w ≤ 0.25 would take 1.6 instead of 0.3" in said
    assert "50 millionths of a second a run" in said
    assert "`cifar10/original/w4/seed0`, with 110.8 hours" in said
    assert "about 18 GPUs" in said  # 1950.4 / 110.84 = 17.6


def test_a_card_that_was_never_measured_is_told(monkeypatch):
    assert "No card has been measured yet" in speed.gpu_summary(None)
    assert set(speed.gpu_table(None).text.iloc[0]) == {"–"}
    monkeypatch.setattr(speed.results, "benchmarks", lambda: ["pgd-cpu"])
    assert speed._gpu() is None


def test_the_record_of_a_card_is_shown_with_its_share_of_the_ceiling():
    row = {"case": "lenet5-w0.25", "batch": 50, "engine": "lib, float32", "rounds": 5, "share_of_ceiling": 0.217}
    rows = pd.DataFrame([{**row, "image_steps_per_second": 123456.7, "ratio_to_advertorch": 8.04}])
    rows.attrs = {"device": "NVIDIA H100", "date": "2027-01-02T03:04:05+00:00", "commit": "abcdef123456"}
    assert speed.gpu_table(rows).text.iloc[0].tolist() == ["lenet5 w=0.25", "50", "lib, float32", "123,457 (×8.0)", "22"]
    said = speed.gpu_summary(rows)
    assert said.startswith("Measured on NVIDIA H100")
    assert "8192×8192" in said


def test_the_attack_in_one_kernel_is_estimated_and_not_there():
    (source,) = report.EXHIBITS["speed-fused-seen"].sources()
    run = source.read(None)
    assert (run.model, run.training, run.scale) == ("lenet5", "pgd", "paper")
    said = speed.fused_summary(run)
    narrow = replace(run, widen_factor=0.125)
    gains = [cost.fused_gain(narrow, members=members) for members in (1, 10)]
    assert f"{gains[0]:.1f} times as fast for a run alone and {gains[1]:.1f} times for ten together at w=0.125" in said
    assert "There is none here" in said
