"""Every figure and table of the book: tidy frames in (ours, the paper's), a `Figure` or a table out.

An exhibit never loads, trains or saves. `ours` is what `results.select` gives, `paper` what `results.published` gives.
Figures are shown as vector graphics.
"""

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from lib.exhibits.figures import (
    concentration_figure,
    distance_figure,
    example_1_figure,
    histogram_figure,
    picture_plate,
    ramp_figure,
    robustness_figure,
    speed_figure,
    split_figure,
)
from lib.exhibits.tables import (
    MISSING,
    QUANTITIES,
    agreement_table,
    badge,
    benchmark_stamp,
    budget_label,
    certified_seen,
    certified_table,
    concentration_seen,
    distance_and_robustness_table,
    distance_seen,
    distance_table,
    distances_apart,
    example_1_seen,
    example_1_table,
    example_2_seen,
    example_2_table,
    footprint_robustness_table,
    footprint_table,
    interval,
    mean_interval,
    network_table,
    precision_seeds_table,
    precision_seen,
    precision_table,
    ramp_seen,
    ramp_table,
    robustness_table,
    schedule_seen,
    schedule_table,
    seen,
    sensitivity_table,
    settings_table,
    speed_seen,
    speed_table,
    stamp,
    transform_label,
    worst_case_seen,
    worst_case_table,
)

__all__ = [
    "MISSING",
    "QUANTITIES",
    "agreement_table",
    "badge",
    "benchmark_stamp",
    "budget_label",
    "certified_seen",
    "certified_table",
    "concentration_figure",
    "concentration_seen",
    "distance_and_robustness_table",
    "distance_figure",
    "distance_seen",
    "distance_table",
    "distances_apart",
    "example_1_figure",
    "example_1_seen",
    "example_1_table",
    "example_2_seen",
    "example_2_table",
    "footprint_robustness_table",
    "footprint_table",
    "histogram_figure",
    "interval",
    "mean_interval",
    "network_table",
    "picture_plate",
    "precision_seeds_table",
    "precision_seen",
    "precision_table",
    "ramp_figure",
    "ramp_seen",
    "ramp_table",
    "robustness_figure",
    "robustness_table",
    "schedule_seen",
    "schedule_table",
    "seen",
    "sensitivity_table",
    "settings_table",
    "show",
    "speed_figure",
    "speed_seen",
    "speed_table",
    "split_figure",
    "stamp",
    "transform_label",
    "worst_case_seen",
    "worst_case_table",
]


def show(name: str, exhibit: Figure | pd.DataFrame | str) -> None:
    """Display an exhibit in the notebook and hand it, under `name`, to the page that refers to it."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats
    from myst_nb import glue

    if isinstance(exhibit, Figure):
        set_matplotlib_formats("svg")
        glue(name, exhibit)
    elif isinstance(exhibit, pd.DataFrame):
        alignment = ["left" if exhibit.iloc[:, i].str.contains("[a-z]{4}").any() else "right" for i in range(exhibit.shape[1])]
        glue(name, Markdown(exhibit.to_markdown(index=False, colalign=alignment, disable_numparse=True)))
    else:
        glue(name, Markdown(exhibit))
