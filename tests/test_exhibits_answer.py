"""The first screen's answer, on made-up records."""

import numpy as np
import pandas as pd
import pytest
from frames import frame, measured

from lib.report import claims
from lib.report.sections import answer, autoattack

ROBUST, CLEAN = ("pgd", "robust_accuracy"), ("standard", "clean_accuracy")


NAMES = ("original", "smooth-5")


def ours(*robust: float, clean: tuple[float, ...] = (99.0, 98.5)) -> pd.DataFrame:
    rows = [(name, *ROBUST, value, 0) for name, value in zip(NAMES, robust, strict=False)]
    return frame(*rows, *((name, *CLEAN, value, 0) for name, value in zip(NAMES, clean, strict=False)))


def paper(*robust: float) -> pd.DataFrame:
    about = {"training": "pgd", "metric": "robust_accuracy", "split": "test", "widen_factor": 0.25}
    return pd.DataFrame([{"transform": name, "value": value, **about} for name, value in zip(NAMES, robust, strict=True)])


@pytest.mark.parametrize(
    ("robust", "verdict"),
    [
        ((90.0, 70.0), "the effect reproduces, in size too.**"),
        ((90.0, 60.0), "the effect reproduces, but not in size.**"),
        ((90.0, 89.0), "the effect does not reproduce.**"),
    ],
)
def test_the_verdict_follows_the_ranges(robust, verdict):
    rows = ours(*robust).assign(widen_factor=0.25)
    rows.attrs = frame().attrs
    sentence = answer.answer(rows, paper(90.0, 69.0))
    assert verdict in sentence
    assert f"moves by **{robust[0] - robust[1]:.1f} points**" in sentence
    assert "(the paper's networks of the same width: 21.0), and the clean accuracy of standard training by 0.5" in sentence
    assert sentence.endswith("(Scale laptop: w = 0.25, 1 seed, shorter training than the paper's.)")


def test_where_clean_accuracy_moves_the_finding_is_not_reproduced():
    rows = ours(90.0, 70.0, clean=(99.0, 94.0)).assign(widen_factor=0.25)
    rows.attrs = frame().attrs
    sentence = answer.answer(rows, paper(90.0, 69.0))
    assert "MNIST: robust accuracy moves, as much as in the paper, and clean accuracy moves too.**" in sentence
    assert answer.reproduces(4.0, 20.0, 30.0) == "robust accuracy moves, less than in the paper, and clean accuracy moves too"
    assert answer.reproduces(4.0, 40.0, 30.0) == "robust accuracy moves, more than in the paper, and clean accuracy moves too"


def test_levels_above_16_do_not_count():
    names = ("original", "saturate-16", "saturate-inf")
    rows = frame(*((name, *ROBUST, value, 0) for name, value in zip(names, (30.0, 60.0, 80.0), strict=True)),
                 *((name, *CLEAN, value, 0) for name, value in zip(names, (90.0, 89.0, 60.0), strict=True)))  # fmt: skip
    attrs = rows.attrs
    rows = rows.assign(widen_factor=0.25)
    rows.attrs = attrs
    printed = pd.concat([paper(30.0, 60.0), paper(80.0, 0.0)[:1]]).assign(transform=names)
    sentence = answer.answer(rows, printed)
    assert "the effect reproduces, in size too.**" in sentence
    assert "Over 2 variants up to saturate 16 robust accuracy moves by **30.0 points**" in sentence


def test_one_variant_is_no_range():
    assert answer.answer(ours(90.0).assign(widen_factor=0.25), paper(90.0, 69.0)).startswith("Not computed yet")


def outcomes(**held: dict[str, list[bool]]) -> pd.DataFrame:
    rows = [
        {
            "transform": name.replace("_", "-"),
            "metric": f"robust_accuracy_{attack}",
            "seed": 0,
            "image": i,
            "held": bool(stands),
            "record": f"laptop/mnist/{name}/lenet5-w0.25/pgd/n60000/default/seed0/{attack}.json",
        }
        for name, attacks in held.items()
        for attack, images in attacks.items()
        for i, stands in enumerate(images)
    ]
    table = pd.DataFrame(rows)
    table.attrs = frame().attrs | {"exhibit": "autoattack-mnist"}
    return table


BOTH = outcomes(
    original={"reference": [1] * 9 + [0], "autoattack": [1] * 8 + [0, 0]},
    smooth_8={"reference": [1] * 8 + [0, 0], "autoattack": [1] * 5 + [0] * 5},
    smooth_2={"reference": [1] * 10},
)


def test_both_attacks_are_read_where_both_are_recorded():
    attacks = autoattack.both_attacks(BOTH)
    assert set(attacks.index) == {"original", "smooth-8"}
    assert attacks.loc["smooth-8"].tolist() == [80.0, 50.0, 10.0]


def test_a_stronger_attack_and_the_range():
    said = answer.attack_answer(BOTH)
    assert "makes the effect on MNIST larger.** Over 2 variants" in said
    assert "moves by **30.0 points** under AutoAttack and by 10.0 under the paper's attack" in said
    assert "On smooth 8 AutoAttack leaves 50.0% where the paper's attack leaves 80.0%. (The same 10 test images" in said


def test_the_first_figure_shows_what_autoattack_leaves():
    rows = ours(90.0, 70.0).assign(widen_factor=0.25)
    rows.attrs = frame().attrs
    printed = paper(90.0, 69.0).assign(dataset="mnist")
    (ax,) = answer.claim_figure({"MNIST": (rows, printed, paper(90.0, 69.0))}, {"MNIST": BOTH}).axes
    left = {bars.get_label(): bars for bars in ax.containers}["the same, AutoAttack"]
    at = dict(zip([label.get_text() for label in ax.get_xticklabels()], ax.get_xticks(), strict=True))
    assert left.lines[0].get_xydata().tolist() == [[at["original"], 80.0], [at["smooth 8"], 50.0]]
    assert left.has_yerr


def test_the_table_of_autoattack_shows_what_is_not_computed():
    table = autoattack.autoattack_table(BOTH).text.set_index("variant")
    assert table.loc["smooth 8", "difference"] == "-30.0"
    assert table.loc["smooth 8"].iloc[0].startswith("80.0")
    assert table.loc["smooth 2", "difference"] == "–"
    made = autoattack.autoattack_table(BOTH)
    of = dict(zip(made["variant"], made["AutoAttack"], strict=True))
    assert of["smooth 8"].records == ("laptop/mnist/smooth_8/lenet5-w0.25/pgd/n60000/default/seed0/autoattack.json",)
    seen = autoattack.autoattack_summary(BOTH)
    assert "ranges over 10.0 points under the paper's attack and over **30.0 points** under AutoAttack" in seen
    assert "by 10.0 points (original) to 30.0 points (smooth 8) more" in seen


def test_claims_that_fail_are_sorted_by_reason():
    verdicts = pd.DataFrame(
        {
            "verdict": ["holds", "fails", "fails", "undecided", "fails"],
            "reason": ["", claims.THE_PAPER, claims.UNTOLD, "", claims.THE_PAPER],
        }
    )
    said = answer.claims_answer(verdicts)
    assert "1 holds on our records, 3 fail, 1 is undecided" in said
    assert said.endswith(f"Of the failures: {claims.THE_PAPER} (2 of 3); {claims.UNTOLD} (1 of 3).")


def test_the_filter_is_told_by_the_numbers_that_can_tell():
    volumes = measured("log2_perturbable_volume", {"smooth-2": -100.5, "smooth-square-2": -90.0})
    volumes.attrs = {"scale": "paper"}
    printed = pd.DataFrame({"dataset": ["mnist"], "transform": ["smooth-2"], "value": [-100.0]})
    nothing = pd.DataFrame({"transform": [], "metric": [], "value": np.array([], dtype=float)})
    said = answer.filter_answer(volumes, measured("inter_class_distance", {}), printed, nothing.astype({"transform": str}))
    assert (
        "1 of its volumes and distances can tell a square of pixels from a column, and all of them are nearer to a column."
        in said
    )
    assert said.endswith("(Scale paper.)")


def test_ranges_are_over_the_same_variants():
    """Clean accuracy of a variant without a robust one, or that the paper lacks, has no part in it."""
    extra = frame(*(("smooth-8", *CLEAN, 90.0, 0), ("smooth-9", *CLEAN, 80.0, 0), ("smooth-9", *ROBUST, 10.0, 0)))
    rows = pd.concat([ours(90.0, 70.0), extra]).assign(widen_factor=0.25)
    rows.attrs = frame().attrs
    sentence = answer.answer(rows, paper(90.0, 69.0))
    assert "Over 2 variants" in sentence
    assert "moves by **20.0 points**" in sentence
    assert "the clean accuracy of standard training by 0.5" in sentence
