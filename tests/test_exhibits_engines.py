"""Exhibits of the comparison of trainings with the compiled attack and without it."""

import pandas as pd
import pytest

from lib.report.sections import engines


def record(*rows: tuple[str, int, float, float]) -> pd.DataFrame:
    """Rows (transform, seed, compiled, framework) as `results.benchmark` gives them."""
    table = pd.DataFrame(rows, columns=["transform", "seed", "compiled", "framework"])
    table["test_size"], table["compiled_seconds"], table["framework_seconds"] = 10000, 20.0, 50.0
    table.attrs = {"device": "a processor", "date": "2026-11-29T08:00:00+00:00", "commit": "0123456789ab", "before": None}
    return table


PAIRS = (
    ("original", 0, 81.0, 80.0), ("original", 1, 82.0, 80.0), ("original", 2, 85.0, 82.0),  # differences 1, 2, 3
    ("smooth-5", 0, 60.0, 61.0), ("smooth-5", 1, 63.0, 61.0),  # differences -1, 2
)  # fmt: skip


def test_the_difference_is_that_of_the_pairs():
    table = engines.engines_table(record(*PAIRS)).text.set_index("variant")
    # By hand: mean 2, s.d. 1, three values: 2 ± 4.3027 / sqrt(3); the seeds of the framework have the s.d. sqrt(4/3).
    assert table.loc["original"].to_dict() == {
        "seeds": "3", "compiled: mean (s.d.)": "82.67 (2.08)", "framework: mean (s.d.)": "80.67 (1.15)",
        "difference": "+2.00", "95% interval": "-0.48 to +4.48", "speed ratio": "2.5",
    }  # fmt: skip
    assert table.loc["smooth 5", "difference"] == "+0.50"


def test_one_seed_has_no_interval():
    rows = record(("original", 0, 81.0, 80.0))
    assert engines.engines_table(rows).text.loc[0, ["difference", "95% interval"]].tolist() == ["–", "–"]
    assert engines.engines_summary(rows).startswith("An interval needs at least two seeds")


@pytest.mark.parametrize(
    ("third", "verdict"),
    [(90.0, "**Every interval contains 0**"), (84.1, "The interval on original excludes 0: there the compiled attack **did")],
    ids=["contains 0", "excludes 0"],
)
def test_the_verdict_follows_the_interval(third, verdict):
    text = engines.engines_summary(
        record(("original", 0, 82.0, 80.0), ("original", 1, 82.1, 80.0), ("original", 2, third, 82.0), *PAIRS[3:])
    )
    assert verdict in text
    assert "+0.50 points on smooth 5 (95% interval" in text
    assert "their own standard deviation is 1.15)" in text


def test_the_stamp_says_where_it_was_measured():
    assert engines.engines_stamp(record(*PAIRS)) == (
        "Measured on a processor, 2026-11-29, commit `0123456789ab`; 10,000 test images."
    )


def test_the_words_of_a_record_are_escaped():
    text = "<b>{{ 7 }}</b>`x`[a](javascript:b)"
    rows = record((text, 0, 81.0, 80.0), (text, 1, 82.0, 80.0))
    rows.attrs |= {"device": text, "date": text}
    shown = (engines.engines_table(rows).markdown(), engines.engines_summary(rows), engines.engines_stamp(rows))
    for words in shown:
        assert "javascript" in words
        assert not any(raw in words for raw in ("<b>", "`x`", "[a](javascript", "{{"))
