"""Every figure and table of the book: tidy frames in (ours, the paper's), a `Figure` or a table out.

An exhibit never loads, trains or saves. `ours` is what `results.select` gives, `paper` what `results.published` gives.
Figures are shown as vector graphics.
"""

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from lib.exhibits.figures import (
    boundary_figure,
    concentration_figure,
    curve_figure,
    distance_bars,
    distance_figure,
    distance_scatter,
    example_1_figure,
    histogram_figure,
    linear_margin_figure,
    picture_plate,
    robustness_figure,
    speed_figure,
    spheres_figure,
    split_figure,
)
from lib.exhibits.tables import (
    MISSING,
    QUANTITIES,
    agreement_table,
    badge,
    benchmark_stamp,
    budget_label,
    certified_table,
    concentration_seen,
    curve_seen,
    curve_table,
    distance_correlation_seen,
    distance_seen,
    distance_table,
    distances_apart,
    example_1_seen,
    example_1_table,
    example_2_seen,
    example_2_table,
    facets_table,
    footprint_robustness_table,
    footprint_table,
    half_eps,
    interval,
    linear_margin_seen,
    linf_seen,
    linf_table,
    masking_seen,
    masking_table,
    mean_interval,
    perturbable_volume_seen,
    perturbable_volume_table,
    precision_seeds_table,
    precision_seen,
    precision_table,
    rank_correlation,
    robustness_table,
    seen,
    sensitivity_table,
    speed_table,
    spheres_seen,
    stamp,
    strength_seen,
    strength_table,
    transform_label,
    unboxed_seen,
    unboxed_table,
    worst_case_seen,
    worst_case_table,
)

__all__ = [
    "MISSING",
    "QUANTITIES",
    "agreement_table",
    "badge",
    "benchmark_stamp",
    "boundary_figure",
    "budget_label",
    "certified_table",
    "concentration_figure",
    "concentration_seen",
    "curve_figure",
    "curve_seen",
    "curve_table",
    "distance_bars",
    "distance_correlation_seen",
    "distance_figure",
    "distance_scatter",
    "distance_seen",
    "distance_table",
    "distances_apart",
    "example_1_figure",
    "example_1_seen",
    "example_1_table",
    "example_2_seen",
    "example_2_table",
    "facets_table",
    "footprint_robustness_table",
    "footprint_table",
    "half_eps",
    "histogram_figure",
    "interval",
    "linear_margin_figure",
    "linear_margin_seen",
    "linf_seen",
    "linf_table",
    "masking_seen",
    "masking_table",
    "mean_interval",
    "perturbable_volume_seen",
    "perturbable_volume_table",
    "picture_plate",
    "precision_seeds_table",
    "precision_seen",
    "precision_table",
    "rank_correlation",
    "robustness_figure",
    "robustness_table",
    "seen",
    "sensitivity_table",
    "show",
    "speed_figure",
    "speed_table",
    "spheres_figure",
    "spheres_seen",
    "split_figure",
    "stamp",
    "strength_seen",
    "strength_table",
    "transform_label",
    "unboxed_seen",
    "unboxed_table",
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
