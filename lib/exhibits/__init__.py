"""Every figure and table of the book: tidy frames in (ours, the paper's), a `Figure` or a table out.

An exhibit never loads, trains or saves. `ours` is what `results.select` gives, `paper` what `results.published` gives.
Figures are shown as vector graphics.
"""

from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from lib.exhibits.appB import certified_seen, certified_table, network_table, ramp_seen, ramp_table, settings_table
from lib.exhibits.appD import (
    distance_correlation_seen,
    facets_table,
    linear_margin_seen,
    linf_seen,
    linf_table,
    perturbable_volume_seen,
    perturbable_volume_table,
    rank_correlation,
    spheres_seen,
    unboxed_seen,
    unboxed_table,
)
from lib.exhibits.cells import QUANTITIES, badge, budget_label, downloads, listed, stamp, transform_label
from lib.exhibits.figures import (
    boundary_figure,
    claim_figure,
    concentration_figure,
    curve_figure,
    distance_bars,
    distance_figure,
    distance_scatter,
    equal_distance_figure,
    example_1_figure,
    fashion_figure,
    growth_figure,
    histogram_figure,
    length_figure,
    linear_margin_figure,
    picture_plate,
    ramp_figure,
    robustness_figure,
    speed_figure,
    spheres_figure,
    split_figure,
    volume_figure,
)
from lib.exhibits.length import length_seen, length_table, tuning_seen, tuning_table
from lib.exhibits.scorecard import (
    agreement_figure,
    claims_seen,
    claims_table,
    compute_table,
    exhibit_label,
    like_table,
    marks_seen,
    marks_table,
    numbers_table,
    totals_table,
)
from lib.exhibits.sec2 import (
    concentration_seen,
    distance_and_robustness_table,
    distance_seen,
    distance_table,
    distances_apart,
    example_1_seen,
    example_1_table,
    example_2_seen,
    example_2_table,
)
from lib.exhibits.sec3 import (
    footprint_robustness_table,
    footprint_table,
    footprints_seen,
    jpeg_seen,
    lucky_seen,
    robustness_table,
    seen,
    sensitivity_table,
)
from lib.exhibits.sec4 import fashion_table, seen_fashion, seen_variants, variants_table
from lib.exhibits.sec5 import capacity_tables, equal_distance_seen, equal_distance_table, growth_seen, passes_seen, volume_seen
from lib.exhibits.slider import level_slider
from lib.exhibits.speed import (
    agreement_table,
    benchmark_stamp,
    mean_interval,
    precision_seeds_table,
    precision_seen,
    precision_table,
    schedule_seen,
    schedule_table,
    speed_seen,
    speed_table,
    worst_case_seen,
    worst_case_table,
)
from lib.exhibits.strength import (
    curve_seen,
    curve_table,
    half_eps,
    half_seen,
    half_table,
    masking_seen,
    masking_table,
    strength_seen,
    strength_table,
)
from lib.exhibits.table import MISSING, Table
from lib.intervals import interval

__all__ = [
    "MISSING",
    "QUANTITIES",
    "agreement_figure",
    "agreement_table",
    "badge",
    "benchmark_stamp",
    "boundary_figure",
    "budget_label",
    "capacity_tables",
    "certified_seen",
    "certified_table",
    "claim_figure",
    "claims_seen",
    "claims_table",
    "compute_table",
    "concentration_figure",
    "concentration_seen",
    "curve_figure",
    "curve_seen",
    "curve_table",
    "distance_and_robustness_table",
    "distance_bars",
    "distance_correlation_seen",
    "distance_figure",
    "distance_scatter",
    "distance_seen",
    "distance_table",
    "distances_apart",
    "downloads",
    "equal_distance_figure",
    "equal_distance_seen",
    "equal_distance_table",
    "example_1_figure",
    "example_1_seen",
    "example_1_table",
    "example_2_seen",
    "example_2_table",
    "exhibit_label",
    "facets_table",
    "fashion_figure",
    "fashion_table",
    "footprint_robustness_table",
    "footprint_table",
    "footprints_seen",
    "growth_figure",
    "growth_seen",
    "half_eps",
    "half_seen",
    "half_table",
    "histogram_figure",
    "interval",
    "jpeg_seen",
    "length_figure",
    "length_seen",
    "length_table",
    "level_slider",
    "like_table",
    "linear_margin_figure",
    "linear_margin_seen",
    "linf_seen",
    "linf_table",
    "listed",
    "lucky_seen",
    "marks_seen",
    "marks_table",
    "masking_seen",
    "masking_table",
    "mean_interval",
    "network_table",
    "numbers_table",
    "passes_seen",
    "perturbable_volume_seen",
    "perturbable_volume_table",
    "picture_plate",
    "precision_seeds_table",
    "precision_seen",
    "precision_table",
    "ramp_figure",
    "ramp_seen",
    "ramp_table",
    "rank_correlation",
    "robustness_figure",
    "robustness_table",
    "schedule_seen",
    "schedule_table",
    "seen",
    "seen_fashion",
    "seen_variants",
    "sensitivity_table",
    "settings_table",
    "show",
    "speed_figure",
    "speed_seen",
    "speed_table",
    "spheres_figure",
    "spheres_seen",
    "split_figure",
    "stamp",
    "strength_seen",
    "strength_table",
    "totals_table",
    "transform_label",
    "tuning_seen",
    "tuning_table",
    "unboxed_seen",
    "unboxed_table",
    "variants_table",
    "volume_figure",
    "volume_seen",
    "worst_case_seen",
    "worst_case_table",
]


def show(name: str, exhibit: Figure | Table | HTML | str) -> None:
    """Display an exhibit in the notebook and hand it, under `name`, to the page that refers to it."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats
    from myst_nb import glue

    if isinstance(exhibit, (Figure, HTML)):
        set_matplotlib_formats("svg")
        glue(name, exhibit)
    elif isinstance(exhibit, Table):
        glue(name, Markdown(exhibit.markdown()))
    else:
        glue(name, Markdown(exhibit))
