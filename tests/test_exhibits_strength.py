"""Exhibits of the strength of the attack: the suite, the checks, and the curves over eps."""

import numpy as np
import pandas as pd
import pytest
from frames import ATTRS, frame, is_empty

from lib.report.sections import strength


def held(**attacks: str) -> pd.DataFrame:
    """Outcomes on the original, one letter an image: h where it held; as `results.outcomes` gives them."""
    rows = [
        {"transform": "original", "seed": 0, "metric": f"robust_accuracy_{name}", "image": image, "held": letter == "h"}
        for name, letters in attacks.items()
        for image, letter in enumerate(letters)
    ]
    table = pd.DataFrame(rows, columns=["transform", "seed", "metric", "image", "held", "record"])
    table.attrs = {**ATTRS, "exhibit": "strength-mnist"}
    return table


def curve(transform="original", **values: float) -> pd.DataFrame:
    """Robust accuracy against eps, eps written as e_0_3 for .3."""
    named = {name.removeprefix("e_").replace("_", "."): value for name, value in values.items()}
    table = frame(*((transform, "pgd", f"robust_accuracy_eps_{eps}", value, 0) for eps, value in named.items()))
    table.attrs = {**ATTRS, "exhibit": "curve-mnist", "command": "python -m lib run curve-mnist"}
    return table


def test_the_suite_is_compared_image_by_image():
    outcomes = held(reference="hhhhhh..", fgsm="hhhhhhh.", autoattack="hhhh.h..", margin="hhhhh.h.")
    table = strength.strength_table(outcomes).text.set_index("attack")["original"]
    assert table["**the paper's PGD**"] == "75.0"
    assert table["FGSM: one step of ε"] == "87.5 (+12.5)"
    assert table["AutoAttack"] == "62.5 (-12.5)"
    assert table["BIM: PGD from the image itself"] == "–"
    assert table["all of them together"] == "50.0 (-25.0)"  # images 4 and 5 each withstand one of the two
    text = strength.strength_summary(outcomes)
    for part in (
        "On 8 test images (scale laptop)",
        "**25.0 points**",
        "original from 75.0% to 50.0%",
        "(the strongest alone: AutoAttack)",
    ):
        assert part in text
    assert strength.strength_summary(held(reference="h.")) == "Not computed yet; compute it with `python -m lib run table-2`."
    assert strength.strength_table(held()).text["original"].eq("–").all()


def test_what_the_suite_does_to_the_range_over_variants():
    original, smooth = (
        held(reference="hhhhhhhhh.", autoattack="hhhhhhhh.."),
        held(reference="hhhhhhhh..", autoattack="hhhhh....."),
    )
    both = pd.concat([original, smooth.assign(transform="smooth-8")])
    both.attrs = original.attrs
    said = strength.strength_summary(both)
    assert "the computed attacks together lower robust accuracy by **10.0 to 30.0 points**" in said
    assert said.endswith("stays**. Their range is 10.0 points under the paper's attack and **30.0** under these together.")
    assert strength.strength_table(held(reference="hh")).text["original"].iloc[-1] == "–"


@pytest.mark.parametrize(
    ("weaker", "stronger", "verdict"),
    [
        ("hhhhhhhhhh", "hhhhh.....", "holds (100.0 → 50.0)"),
        ("hhhhh.....", "hhhhh.....", "holds (50.0 → 50.0)"),
        ("hhhhh.....", "hhhhhhhhh.", "holds, within chance (50.0 → 90.0)"),  # 4 images: p = 1/16
        ("hhhhh.....", "hhhhhhhhhh", "**fails** (50.0 → 100.0)"),  # 5 images: p = 1/32
    ],
    ids=["stronger", "as strong", "weaker by chance", "weaker"],
)
def test_a_stronger_attack_that_does_less_fails_the_check(weaker, stronger, verdict):
    table = strength.masking_table(held(fgsm=weaker, reference=stronger), curve()).text.set_index("check")["original"]
    assert table["many steps leave no more images than one step"] == verdict
    assert table["1000 steps leave no more images than 100"] == "–"


@pytest.mark.parametrize(
    ("values", "verdicts"),
    [
        ({"e_0": 99.0, "e_0_3": 90.0, "e_0_5": 10.0, "e_1": 0.0}, ("holds", "holds (10.0)", "holds (0.0)")),
        ({"e_0": 99.0, "e_0_3": 99.5, "e_0_5": 10.1}, ("holds (apart from a rise of 0.5 points)", "**fails** (10.1)", "–")),
        ({"e_0": 90.0, "e_0_3": 92.0, "e_1": 0.1}, ("**fails** (apart from a rise of 2.0 points)", "–", "**fails** (0.1)")),
        ({}, ("–", "–", "–")),
    ],
    ids=["all hold", "grey fails", "the end fails", "nothing"],
)
def test_a_curve_that_stays_up_fails_the_check(values, verdicts):
    table = strength.masking_table(held(), curve(**values)).text
    assert tuple(table["original"].iloc[-3:]) == verdicts
    text = strength.masking_summary(held(), curve(**values))
    failing = sum("fails" in verdict for verdict in verdicts)
    computed = sum(verdict != "–" for verdict in verdicts)
    assert text.startswith(
        f"**{computed - failing} of {computed} checks hold**" if computed else "Not computed yet; compute it with `python"
    )
    assert ("those that fail" in text) == bool(failing)


def test_a_search_without_gradients_that_finds_more_fails_the_check():
    outcomes = held(square="hhhhh.....", reference="hhhhhhhhhh", restarts="hhhhhh....")
    checks = strength.masking_table(outcomes, curve()).text.set_index("check")["original"]
    found = [
        checks[f"{attack} leaves no more images than a search without gradients"]
        for attack in ("the paper's attack", "PGD from 10 starts")
    ]
    assert found == ["**fails** (50.0 → 100.0)", "holds, within chance (50.0 → 60.0)"]
    failed = "those that fail: the paper's attack leaves no more images than a search without gradients (original)."
    assert strength.masking_summary(outcomes, curve()) == f"**1 of 2 checks hold**; {failed}"


def test_curve_table_has_the_budgets_around_the_papers():
    table = strength.curve_table(curve(e_0=99.0, e_0_15=97.0, e_0_3=90.0, e_0_4=60.0, e_0_45=40.0)).text.set_index("variant")
    assert list(table.columns) == ["ε = 0 (clean)", "ε = 0.15", "ε = 0.3", "ε = 0.45", "half fall at ε ≈"]
    assert list(table.loc["original"]) == ["99.0", "97.0", "90.0", "40.0", "0.425"]
    assert list(table.loc["smooth 8"]) == ["–"] * 5
    # Nothing is interpolated towards the budgets of the checks.
    table = strength.curve_table(curve(e_0=99.0, e_0_3=90.0, e_0_45=80.0, e_1=0.0)).text.set_index("variant")
    assert table.loc["original", "half fall at ε ≈"] == "above 0.6"


@pytest.mark.parametrize(
    ("means", "half"),
    [
        ({0.0: 90.0, 0.2: 70.0, 0.4: 30.0}, 0.3),
        ({0.0: 40.0, 0.2: 20.0}, 0.0),
        ({0.0: 90.0, 0.2: 50.0}, 0.2),
        ({0.0: 90.0}, None),
    ],
    ids=["between", "from the start", "at a point", "never"],
)
def test_where_half_of_the_images_fall(means, half):
    eps = strength.half_eps(pd.Series(means))
    assert eps == pytest.approx(half) if half is not None else np.isnan(eps)


def test_a_curve_reaches_twice_the_papers_budget():
    """In a metric's name 16/255 is 0.0627451, a little more than it is."""
    rows = curve(e_0=90.0, **{f"e_{k / 255:g}": value for k, value in ((8, 60.0), (16, 40.0))}, e_0_5=1.0)
    both = pd.concat([rows, rows.assign(transform="saturate-16", value=rows["value"] + rows.index)])
    both.attrs = {**rows.attrs, "exhibit": "curve-cifar10"}
    (ax,) = strength.curve_figure(both).axes
    assert [len(line.get_xdata()) for line in ax.lines if not line.get_label().startswith("_")] == [3, 3]
    assert "It is largest, **2.0**, at ε = 16/255" in strength.curve_summary(both)


def test_the_strongest_attacks_are_named_where_several_leave_as_much():
    means = pd.Series({"fgsm": 60.0, "bim": 50.0, "autoattack": 50.0})
    assert strength._strongest(means, 55.0) == "the strongest alone: BIM and AutoAttack"
    assert strength._strongest(means, 50.0) == "no single one leaves less than the paper's attack"


def test_an_order_within_chance_is_not_compared():
    both = pd.concat([curve(e_0=99.0, e_0_3=90.0, e_0_4=0.1), curve("smooth-8", e_0=98.0, e_0_3=70.0, e_0_4=0.3)])
    both.attrs = curve().attrs
    assert "rank correlation" not in strength.curve_summary(both)


def test_curves_of_two_variants_are_compared_at_every_budget():
    both = pd.concat([curve(e_0=99.0, e_0_3=90.0, e_0_4=50.0), curve("smooth-8", e_0=98.0, e_0_3=70.0, e_0_4=60.0)])
    both.attrs = curve().attrs
    text = strength.curve_summary(both)
    for part in (
        "2 variants",
        "an accuracy on 10000 test images is at most ±1 points",
        "1.0 points at ε = 0",
        "20.0 at the paper's ε = 0.3",
        "**20.0**",
        "The variants' order is least like that at the paper's ε at ε = 0.4: the rank correlation is -1.00, original has 50.0% "
        "and smooth 8 60.0%.",
    ):
        assert part in text
    (ax,) = strength.curve_figure(both).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines if not line.get_label().startswith("_")}
    assert drawn == {"original": [99.0, 90.0, 50.0], "smooth 8": [98.0, 70.0, 60.0]}
    assert strength.curve_summary(curve(e_0=99.0)).startswith("Not computed yet: two variants are needed, 1 is computed;")
    empty = strength.curve_figure(curve())
    assert is_empty(empty)


def _changed(**held: list[bool]) -> pd.DataFrame:
    """Outcomes as `results.outcomes` gives them, by change of the weights."""
    rows = [
        {"transform": "original", "seed": 0, "metric": f"robust_accuracy_weights_{change}", "image": i, "held": value}
        for change, values in held.items()
        for i, value in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=["transform", "seed", "metric", "image", "held", "record"])
    table.attrs = {**ATTRS, "exhibit": "half-precision", "command": "python -m lib run half-precision"}
    return table


def test_what_half_precision_does_is_parted():
    own, more = [True, False, False, True], [True, True, False, True]
    found = _changed(
        as_trained=own, half=more, tiny_zero=more, half_but_tiny=own, tiny_shrunk=own, tiny_flipped=[True, True, True, False]
    )
    table = strength.half_table(found).text.set_index("weights")
    assert list(table.loc["as trained (float32)"]) == ["50.0", "0", "0"]
    assert list(table.loc["all in half precision"]) == ["75.0", "1", "0"]
    assert list(table.loc["the weights that round to 0 with the other sign"]) == ["75.0", "2", "1"]
    said = strength.half_summary(found)
    assert "half precision changes robust accuracy by **+25.0 points**" in said
    assert (
        "rounding all others by +0.0. Shrinking those weights to a millionth of their size changes it by +0.0, "
        "flipping their sign by +25.0." in said
    )


def test_half_precision_without_records():
    assert strength.half_summary(_changed()).startswith("Not computed yet")
    assert set(strength.half_table(_changed()).text["robust accuracy"]) == {"–"}
    failed = _changed()
    failed.attrs = {**failed.attrs, "complete": 1, "expected": 1}
    assert strength.half_summary(failed) == "The training failed at this scale: there is no network to attack."
    some = _changed(as_trained=[True], half=[True])
    assert strength.half_table(some).text["robust accuracy"].tolist() == ["100.0", "100.0", "–", "–", "–", "–"]
