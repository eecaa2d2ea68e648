"""Robust accuracy under AutoAttack beside the paper's attack, on the same images, for each network whose weights are kept."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from lib.report.exhibit import exhibit, outcomes
from lib.report.sections.strength import by_attack, records_by_attack
from lib.report.table import Column, Number, Table
from lib.report.values import PALETTE, extent, transforms_of
from lib.report.words import counted, to_compute, transform_label
from lib.store.intervals import interval

_BOTH = ("reference", "autoattack")


def both_attacks(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent by transform under the paper's attack, `reference`, and under `autoattack`; `n` images.

    `outcomes`: as `results.outcomes` gives them. Only transforms that were attacked with both, on the same images.
    """
    rows = {
        name: {**{attack: 100 * by_image[attack].mean() for attack in _BOTH}, "n": len(by_image)}
        for name, by_image in by_attack(outcomes).items()
        if {*_BOTH} <= {*by_image.columns}
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*_BOTH, "n"])


def draw_autoattack(ax: Axes, transforms: Sequence[str], outcomes: pd.DataFrame, label: str, *, joined: bool = False) -> None:
    """Draw robust accuracy under AutoAttack at the places of the transforms, with 95% intervals of the images.

    `joined`: a line joins the variants. Nothing is drawn where no network was attacked with both attacks.
    """
    attacked = both_attacks(outcomes)
    attacked = attacked.reindex([name for name in transforms if name in attacked.index])
    if attacked.empty:
        return
    ends = np.array([interval(row.autoattack, int(row.n)) for row in attacked.itertuples()]).T
    ax.errorbar(
        [transforms.index(name) for name in attacked.index], attacked["autoattack"],
        yerr=np.abs(ends - attacked["autoattack"].to_numpy()), fmt="s-" if joined else "s", color=PALETTE[4], markersize=4,
        linewidth=1.6, capsize=2, label=label,
    )  # fmt: skip


def autoattack_table(outcomes: pd.DataFrame) -> Table:
    """Robust accuracy in percent under the paper's attack and under AutoAttack, with 95% intervals of the images."""
    accuracies, records = both_attacks(outcomes), records_by_attack(outcomes)
    columns = [Column("variant"), *(Column(name, ".1f", interval=True) for name in ("the paper's PGD", "AutoAttack"))]
    columns += [Column("difference", "+.1f"), Column("images", "g")]
    rows = []
    for name in transforms_of(outcomes):
        if name not in accuracies.index:
            rows.append((transform_label(name), Number(), Number(), Number(), Number()))
            continue
        row = accuracies.loc[name]
        numbers = [
            Number(row[attack], *interval(row[attack], int(row["n"])), records=records.get((name, attack), ()))
            for attack in _BOTH
        ]
        rows.append((transform_label(name), *numbers, Number(row["autoattack"] - row["reference"]), Number(row["n"])))
    return Table(columns, rows)


def autoattack_summary(outcomes: pd.DataFrame) -> str:
    """How far robust accuracy ranges over the variants under either attack, and whether their order stays."""
    robust = both_attacks(outcomes)
    if len(robust) < 2:
        return (
            f"Not computed yet: two variants are needed, {counted(len(robust), 'is', 'are')} computed; {to_compute(outcomes)}"
        )
    losses = robust["reference"] - robust["autoattack"]
    order = ""
    if len(robust) >= 5 and all(robust[attack].nunique() > 1 for attack in _BOTH):  # of fewer it says nothing
        rho = spearmanr(robust["reference"], robust["autoattack"]).statistic
        order = f" The rank correlation of the two is {rho:+z.2f}."
    weak, strong = (extent(robust[attack]) for attack in _BOTH)
    return (
        f"Over {len(robust)} of {len(transforms_of(outcomes))} variants (scale {outcomes.attrs['scale']}) robust accuracy "
        f"ranges over {weak:.1f} points under the paper's attack and over **{strong:.1f} points** under AutoAttack. AutoAttack "
        f"lowers it by {losses.min():.1f} points ({transform_label(losses.idxmin())}) to {losses.max():.1f} points "
        f"({transform_label(losses.idxmax())}) more than the paper's attack.{order}"
    )


for _name in ("mnist", "footprints", "narrow", "fashion", "cifar10", "gamma"):
    exhibit(f"autoattack-{_name}", autoattack_table, outcomes(f"autoattack-{_name}"))
    exhibit(f"autoattack-{_name}-seen", autoattack_summary, outcomes(f"autoattack-{_name}"))
exhibit("own-settings-autoattack", autoattack_table, outcomes("autoattack-narrow", "paper"))
