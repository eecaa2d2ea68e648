"""Exhibits of the comparison of trainings with the compiled attack and without it, `benchmarks/engines.py`."""

import numpy as np
import pandas as pd

from lib.report.exhibit import benchmark, exhibit
from lib.report.sections.speed import ends, mean_interval, measured_on, verdict_of, with_deviation
from lib.report.table import Column, Number, Table
from lib.report.words import as_markdown, transform_label

ENGINES = ("compiled", "framework")


def engines_table(rows: pd.DataFrame) -> Table:
    """Robust accuracy of the two trainings of a pair, one row a variant: test images, in percent; the difference is paired.

    `rows`: one a variant and seed, with the robust accuracy by `compiled` and by `framework`, and the seconds of training.
    """
    columns = [
        Column("variant"), Column("seeds", "d"),
        *(Column(f"{engine}: mean (s.d.)", ".2f", write=with_deviation) for engine in ENGINES),
        Column("difference", "+.2f"), Column("95% interval", "+.2f", write=ends), Column("speed ratio", ".1f"),
    ]  # fmt: skip
    table_rows = []
    for name, pairs in _by_variant(rows):
        difference = _difference(pairs)
        sides = [(pairs[engine].mean(), pairs[engine].std()) for engine in ENGINES]
        ratio = (pairs["framework_seconds"] / pairs["compiled_seconds"]).median()
        table_rows.append((name, len(pairs), *sides, difference, difference, ratio))
    return Table(columns, table_rows)


def engines_summary(rows: pd.DataFrame) -> str:
    """The differences in words: whether 0 is within each interval, and how large a difference the seeds alone make."""
    phrases, significant = [], []
    for name, pairs in _by_variant(rows):
        gap = _difference(pairs)
        if not gap.exists:
            continue
        own = f"{len(pairs)} seeds; their own standard deviation is {pairs['framework'].std():.2f}"
        phrases.append(f"{gap.value:+z.2f} points on {name} (95% interval {ends(gap)}, {own})")
        significant += [] if gap.low <= 0 <= gap.high else [f"on {name}"]
    if not phrases:
        return "An interval needs at least two seeds; `python benchmarks/engines.py` trains them."
    verdict = verdict_of(significant, "the compiled attack")
    return f"The compiled attack in training moved robust accuracy by {', by '.join(phrases)}. {verdict}"


def _by_variant(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(as_markdown(transform_label(name)), pairs) for name, pairs in rows.groupby("transform", sort=False)]


def _difference(pairs: pd.DataFrame) -> Number:
    """The mean of compiled minus framework and its interval; absent for fewer than two seeds."""
    if len(pairs) < 2:
        return Number()
    return Number(*mean_interval(list(np.asarray(pairs["compiled"] - pairs["framework"]))))


def engines_stamp(rows: pd.DataFrame) -> str:
    """The line below the comparison: machine, date, commit and the number of test images."""
    (test_size,) = rows["test_size"].unique()
    return f"{measured_on(rows)}; {test_size:,} test images."


_ENGINES = benchmark("engines")
exhibit("engines", engines_table, _ENGINES)
exhibit("engines-seen", engines_summary, _ENGINES)
exhibit("engines-stamp", engines_stamp, _ENGINES)
