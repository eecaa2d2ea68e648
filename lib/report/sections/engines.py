"""The agreement of engines, and two benchmarks of training: with the compiled attack and without it (`benchmarks/engines.py`),
with the compiled training step and without it (`benchmarks/training_step.py`).
"""

import numpy as np
import pandas as pd

from lib.report.exhibit import benchmark, exhibit
from lib.report.sections.speed import (
    MARGIN,
    ends,
    failed,
    mean_interval,
    measured_on,
    network_of,
    short_name,
    verdict_of,
    with_deviation,
)
from lib.report.table import Column, Number, Table
from lib.report.words import TRAININGS, as_code, as_markdown, listed, transform_label

ENGINES = ("compiled", "framework")


def agreement_table(rows: pd.DataFrame) -> Table:
    """The robust accuracy that each engine reaches from the same δ₀ on the largest batch, and its share of the ceiling."""
    columns = [
        Column("network"), Column("engine"), Column("robust accuracy (%)", ".1f"), Column("largest perturbation", ".6f"),
        Column("share of ceiling (%)", ".0f"),
    ]  # fmt: skip
    largest = rows[rows["batch"] == rows["batch"].max()]
    percents = zip(100 * largest["robust_accuracy"], largest["max_delta"], 100 * largest["share_of_ceiling"], strict=True)
    labels = zip(map(network_of, largest["case"]), map(as_markdown, largest["engine"]), strict=True)
    return Table(columns, [(*label, *numbers) for label, numbers in zip(labels, percents, strict=True)])


def agreement_summary(rows: pd.DataFrame) -> str:
    """Which engines' attacks did not work, by the images that they leave."""
    theirs = rows[rows["engine"] == "AdverTorch"].set_index(["case", "batch"])["robust_accuracy"] * 100
    failing = [
        f"{as_markdown(engine)} on {short_name(case)}, batch {batch} ({robust:.1f}% against {theirs[case, batch]:.1f}%)"
        for (case, batch, engine), robust in failed(rows).items()
    ]
    if not failing:
        return f"No engine leaves more images than AdverTorch by more than {MARGIN:g} points."
    return (
        f"**These attacks did not work**, since they leave over {MARGIN:g} points more images than AdverTorch: "
        f"{'; '.join(failing)}. So the tables give no speed for them. (Commit {as_code(rows.attrs['commit'])}.)"
    )


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


def steps_table(rows: pd.DataFrame) -> Table:
    """Milliseconds of a training step by each engine, and in brackets its speed relative to the framework's, channels last.

    `rows`: one a network, kind of training and engine, as `benchmarks/training_step.py` records them.
    """
    engines = list(rows["engine"].unique())
    columns = [Column("network"), Column("training"), Column("batch", "d")]
    columns += [Column(as_markdown(engine), write=_milliseconds) for engine in engines]
    groups = rows.groupby(["case", "training", "batch"], sort=False)
    return Table(
        columns,
        [
            (
                network_of(case),
                TRAININGS.get(training, as_markdown(training)),
                batch,
                *(row for _, row in group.set_index("engine").loc[engines].iterrows()),
            )
            for (case, training, batch), group in groups
        ],
    )


def _milliseconds(row: pd.Series) -> str:
    return f"{1000 * row['seconds_a_step']:.0f} (×{row['ratio_to_framework']:.2f})"


def steps_summary(rows: pd.DataFrame) -> str:
    """How many times the framework's speed the compiled step has, by kind of training, and where this was measured."""
    compiled = rows[rows["engine"] == "compiled"]
    spans = [
        f"{ratios.min():.1f} to {ratios.max():.1f} times in {TRAININGS.get(name, as_markdown(name))} training"
        for name, ratios in compiled.groupby("training", sort=False)["ratio_to_framework"]
    ]
    return (
        f"The compiled step makes training {listed(spans)} as fast as the framework's step, channels last. "
        f"{measured_on(rows)}; medians of {rows['rounds'].min()} rounds."
    )


_ENGINES, _STEPS = benchmark("engines"), benchmark("training-step")
exhibit("speed-agreement", agreement_table, benchmark("pgd-cpu"))
exhibit("speed-agreement-seen", agreement_summary, benchmark("pgd-cpu"))
exhibit("engines", engines_table, _ENGINES)
exhibit("engines-seen", engines_summary, _ENGINES)
exhibit("engines-stamp", engines_stamp, _ENGINES)
exhibit("training-step", steps_table, _STEPS)
exhibit("training-step-seen", steps_summary, _STEPS)
