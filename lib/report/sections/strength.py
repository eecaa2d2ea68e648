"""The page on the strength of the attack: other attacks, checks for gradient masking, and robust accuracy against eps."""

from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest, spearmanr

from lib.report.exhibit import exhibit, outcomes, runs
from lib.report.plot import STYLE, looks_of, not_yet
from lib.report.table import MISSING, Column, Number, Strong, Table
from lib.report.values import extent, paper_eps, transforms_of
from lib.report.words import counted, listed, to_compute, transform_label
from lib.store import grid, plans
from lib.store.intervals import interval

# The attacks of the suite, by their metric's suffix, from the weakest kind to the strongest: name and description.
ATTACKS = {
    "transfer": ("transfer", "the paper's PGD, on the standardly trained twin"),
    "fgsm": ("FGSM", "one step of ε"),
    "reference": ("the paper's PGD", ""),
    "bim": ("BIM", "PGD from the image itself"),
    "momentum": ("PGD with momentum", ""),
    "margin": ("PGD on the margin (CW loss)", ""),
    "100_steps": ("PGD, 100 steps", ""),
    "1000_steps": ("PGD, 1000 steps", ""),
    "restarts": ("PGD from 10 starts", "100 steps each, every iterate counts"),
    "square": ("Square", "a search without gradients"),
    "autoattack": ("AutoAttack", ""),
}


def by_attack(outcomes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By transform: one row an image (of a seed), one column an attack, whether it held."""
    if outcomes.empty:
        return {}
    rows = outcomes.assign(metric=outcomes["metric"].str.removeprefix("robust_accuracy_"))
    rows = rows[rows["metric"].isin(ATTACKS)]
    return {
        transform: group.pivot(index=["seed", "image"], columns="metric", values="held")
        for transform, group in rows.groupby("transform", sort=False)
    }


def records_by_attack(outcomes: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """By transform and attack, the records that its outcomes are of."""
    named = outcomes.assign(metric=outcomes["metric"].str.removeprefix("robust_accuracy_"))
    groups = named.dropna(subset="record").groupby(["transform", "metric"])["record"]
    return {key: tuple(dict.fromkeys(group)) for key, group in groups}


def strength_table(outcomes: pd.DataFrame) -> Table:
    """Robust accuracy in percent under each attack of the suite, and in brackets its difference from the paper's attack.

    `outcomes`: as `results.outcomes` gives them; all attacks are on the same images. The last row is the worst case: an image
    counts only if it withstands every attack there is a record of, two at least.
    """
    by_transform, transforms, records = by_attack(outcomes), transforms_of(outcomes), records_by_attack(outcomes)
    rows = []
    for attack, (name, description) in {**ATTACKS, "together": ("all of them together", "")}.items():
        label = f"{name}: {description}" if description else name
        row: list[object] = [Strong(label) if attack == "reference" else label]
        for transform in transforms:
            by_image = by_transform.get(transform, pd.DataFrame())
            if len(by_image.columns) > 1:
                by_image = by_image.assign(together=by_image.all(axis=1))
            reference = 100 * by_image["reference"].mean() if "reference" in by_image and attack != "reference" else np.nan
            number = Number(100 * by_image[attack].mean(), paper=reference) if attack in by_image else Number()
            row.append(replace(number, records=records.get((transform, attack), ())))
        rows.append(row)
    return Table(
        [Column("attack"), *(Column(transform_label(name), ".1f", delta=True, bare_heading=True) for name in transforms)], rows
    )


@dataclass(frozen=True)
class Check:
    """The result of a check for gradient masking: whether it holds, and its numbers; None where they are missing."""

    holds: bool | None = None
    numbers: tuple[float, ...] = ()
    by_chance: bool = False  # an excess that chance may explain
    rise: float = 0.0  # the largest rise, in points, that a falling curve may have

    def __str__(self) -> str:
        if self.holds is None:
            return MISSING
        verdict = "holds" if self.holds else "**fails**"
        if self.rise > 0:
            return f"{verdict} (apart from a rise of {self.rise:.1f} points)"
        verdict += ", within chance" if self.by_chance else ""
        return verdict + (f" ({' → '.join(f'{number:.1f}' for number in self.numbers)})" if self.numbers else "")


def _strongest(means: pd.Series, reference: float) -> str:
    """Which attacks leave the fewest images, by the robust accuracy that each leaves."""
    least = means[np.isclose(means, means.min())]
    if means.min() >= reference:
        return "no single one leaves less than the paper's attack"
    return f"the strongest alone: {listed(ATTACKS[name][0] for name in least.index)}"


def strength_summary(outcomes: pd.DataFrame) -> str:
    """How much all attacks together lower robust accuracy, and whether the variants keep their order and range."""
    by_transform = {
        name: by_image
        for name, by_image in by_attack(outcomes).items()
        if "reference" in by_image and len(by_image.columns) > 1
    }
    if not by_transform:
        return f"Not computed yet; {to_compute(outcomes)}"
    reference = pd.Series({name: 100 * by_image["reference"].mean() for name, by_image in by_transform.items()})
    worst = pd.Series({name: 100 * by_image.all(axis=1).mean() for name, by_image in by_transform.items()})
    single = {name: 100 * by_image.drop(columns="reference").mean() for name, by_image in by_transform.items()}
    strongest = {name: _strongest(means, reference[name]) for name, means in single.items()}
    falls = "; ".join(
        f"{transform_label(name)} from {reference[name]:.1f}% to {worst[name]:.1f}% ({strongest[name]})"
        for name in by_transform
    )
    sizes = listed(map(str, sorted({len(by_image) for by_image in by_transform.values()})))
    losses = reference - worst
    span = f"{losses.min():.1f} to {losses.max():.1f}" if len(losses) > 1 else f"{losses.iloc[0]:.1f}"
    same_order = list(reference.sort_values().index) == list(worst.sort_values().index)
    order = ""
    if len(by_transform) > 1:
        order = (
            f" The order of the {len(by_transform)} variants **{'stays' if same_order else 'changes'}**. Their range is "
            f"{extent(reference):.1f} points under the paper's attack and **{extent(worst):.1f}** under these together."
        )
    complete = all(by_image.columns.isin(ATTACKS).sum() == len(ATTACKS) for by_image in by_transform.values())
    return (
        f"On {sizes} test images (scale {outcomes.attrs['scale']}), {'all' if complete else 'the computed'} attacks together "
        f"lower robust accuracy by **{span} points** compared with the paper's attack: {falls}.{order}"
    )


def eps_curve(ours: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy against eps: rows `transform`, `seed`, `eps`, `value`, `n`."""
    rows = ours[ours["metric"].str.startswith("robust_accuracy_eps_") & (ours["split"] == "test")]
    # A metric's name has six digits of its budget; the budgets themselves are the grid's.
    run = grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])[0]
    exact = {f"{eps:g}": eps for eps in plans.of(run).evaluation("eps-curve").settings["eps"]}
    rows = rows.assign(eps=[exact[name.removeprefix("robust_accuracy_eps_")] for name in rows["metric"]])
    return rows[["dataset", "transform", "seed", "eps", "value", "n"]].dropna(subset="value")


def _leaves_no_more(weaker: pd.Series, stronger: pd.Series) -> Check:
    """Whether an attack that should be the stronger one leaves no more images: both outcomes on the same images.

    An excess of images counts against it only if chance would not explain it: an exact one-sided sign test at 5%.
    """
    more, fewer = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    left = (100 * weaker.mean(), 100 * stronger.mean())
    if more <= fewer:
        return Check(True, left)
    by_chance = bool(binomtest(more, more + fewer, alternative="greater").pvalue > 0.05)
    return Check(by_chance, left, by_chance)


_PAIRS = {
    "many steps leave no more images than one step": ("fgsm", "reference"),
    "an attack on the model itself leaves no more images than a transferred attack": ("transfer", "reference"),
    "100 steps leave no more images than the paper's attack": ("reference", "100_steps"),
    "1000 steps leave no more images than 100": ("100_steps", "1000_steps"),
    "the paper's attack leaves no more images than a search without gradients": ("square", "reference"),
    "PGD from 10 starts leaves no more images than a search without gradients": ("square", "restarts"),
}


def _falls_with_eps(means: pd.Series) -> Check:
    """Whether robust accuracy falls with eps. A rise of up to 1 point is allowed: two attacks from random starts may differ."""
    rise = means.diff().max() if len(means) else np.nan
    return Check(bool(rise <= 1), rise=max(rise, 0.0)) if np.isfinite(rise) else Check(True if len(means) else None)


def _at_most(means: pd.Series, eps: float, allowed: float) -> Check:
    value = means.get(eps, np.nan)
    return Check(bool(value <= allowed), (value,)) if np.isfinite(value) else Check()


# What robust accuracy over eps has to do, from a curve's means by eps.
_CURVES = {
    "a larger ε leaves no more images": _falls_with_eps,
    "ε = ½, which can make all images grey, leaves at most chance": lambda means: _at_most(means, 0.5, 100 / 10),
    "ε = 1 leaves no image": lambda means: _at_most(means, 1.0, 0.0),
}


def masking_table(outcomes: pd.DataFrame, curve: pd.DataFrame) -> Table:
    """The checks for gradient masking (Athalye et al., 2018; Carlini et al., 2019), one column a variant of the suite.

    `outcomes` of the suite, `curve` the frame of robust accuracy against eps. "–" marks what is not computed.
    """
    by_transform, curves, transforms = by_attack(outcomes), eps_curve(curve), transforms_of(outcomes)
    means = {name: curves[curves["transform"] == name].groupby("eps")["value"].mean() for name in transforms}
    rows = []
    for label, (weaker, stronger) in _PAIRS.items():
        frames = [by_transform.get(name, pd.DataFrame()) for name in transforms]
        rows.append(
            [
                label,
                *(
                    _leaves_no_more(by_image[weaker], by_image[stronger]) if {weaker, stronger} <= {*by_image} else Check()
                    for by_image in frames
                ),
            ]
        )
    rows += [[label, *(check(means[name]) for name in transforms)] for label, check in _CURVES.items()]
    return Table([Column("check"), *(Column(transform_label(name), write=str) for name in transforms)], rows)


def masking_summary(outcomes: pd.DataFrame, curve: pd.DataFrame) -> str:
    """How many of the checks of `masking_table` hold, and which fail."""
    table = masking_table(outcomes, curve)
    variants = [column.heading for column in table.columns[1:]]
    checks = {(row[0], name): check for row in table.rows for name, check in zip(variants, row[1:], strict=True)}
    decided = {place: check for place, check in checks.items() if check.holds is not None}
    failed = [place for place, check in decided.items() if not check.holds]
    if not decided:
        return f"Not computed yet; {to_compute(outcomes)}"
    failures = "; ".join(f"{check} ({variant})" for check, variant in failed)
    return f"**{len(decided) - len(failed)} of {len(decided)} checks hold**" + (
        f"; those that fail: {failures}." if failures else "."
    )


def curve_table(ours: pd.DataFrame) -> Table:
    """Robust accuracy in percent at some budgets, and the budget at which half of the images fall, by variant."""
    curve = eps_curve(ours)
    dataset = grid.exhibit(ours.attrs["exhibit"])["dataset"]
    budgets = [share * paper_eps(dataset) for share in (0, 0.5, 1, 1.5)]
    largest = 2 * paper_eps(dataset)  # larger budgets are for the checks of hidden gradients, and too far apart to interpolate
    rows = []
    for transform in transforms_of(ours):
        of_variant = curve[(curve["transform"] == transform) & (curve["eps"] <= largest)]
        means = of_variant.groupby("eps")["value"].mean()
        nearest = [means[np.isclose(means.index, eps, rtol=1e-4, atol=1e-9)] for eps in budgets]
        half = half_eps(means) if len(means) else MISSING
        rows.append((transform_label(transform), *(mean.iloc[0] if len(mean) else np.nan for mean in nearest), half))
    budget_columns = [Column(f"ε = {eps_label(eps, dataset)}{'' if eps else ' (clean)'}", ".1f") for eps in budgets]

    def half_text(eps: float) -> str:
        return eps_label(eps, dataset) if np.isfinite(eps) else f"above {eps_label(largest, dataset)}"

    return Table([Column("variant"), *budget_columns, Column("half fall at ε ≈", write=half_text, left=False)], rows)


def eps_label(eps: float, dataset: str) -> str:
    """A budget as one writes it on a data set: 0.3 on MNIST, 8/255 on CIFAR10."""
    return f"{255 * eps:.3g}/255" if eps > 0 and paper_eps(dataset) < 0.05 else f"{eps:.3g}"


def half_eps(means: pd.Series) -> float:
    """The budget, interpolated, at which robust accuracy first falls to half of all images; NaN where it never does."""
    below = means.index[means <= 50]
    if not len(below):
        return np.nan
    last = means.index.get_loc(below[0])
    if last == 0:
        return float(below[0])
    (x0, y0), (x1, y1) = ((means.index[i], means.iloc[i]) for i in (last - 1, last))
    return float(x0 + (y0 - 50) / (y0 - y1) * (x1 - x0))


def curve_summary(ours: pd.DataFrame) -> str:
    """At which budgets the variants differ most, and where their order is another one than at the paper's budget.

    Orders count at budgets at which the variants differ by more than the interval of an accuracy.
    """
    curve = eps_curve(ours)
    dataset = grid.exhibit(ours.attrs["exhibit"])["dataset"]
    eps = paper_eps(dataset)
    means = curve.groupby(["eps", "transform"])["value"].mean().unstack()
    if means.shape[1] < 2:
        return f"Not computed yet: two variants are needed, {counted(means.shape[1], 'is', 'are')} computed; {to_compute(ours)}"
    means = means[means.index <= 2 * eps]
    spread = means.max(axis=1) - means.min(axis=1)
    paper_budget = means.index[np.abs(means.index - eps).argmin()]
    images = int(curve["n"].min())
    low, high = interval(50, images)
    budgets = [budget for budget in means.index[1:] if budget != paper_budget and spread[budget] > high - low]
    orders = pd.Series(
        {budget: spearmanr(means.loc[budget], means.loc[paper_budget]).statistic for budget in budgets}, dtype=float
    )
    order_note = ""
    if len(orders) and spread[paper_budget] > high - low:
        worst = means.loc[orders.idxmin()]
        order_note = (
            f" The variants' order is least like that at the paper's ε at ε = {eps_label(orders.idxmin(), dataset)}: the rank "
            f"correlation is {orders.min():+z.2f}, {transform_label(worst.idxmin())} has {worst.min():.1f}% and "
            f"{transform_label(worst.idxmax())} {worst.max():.1f}%."
        )
        if len(others := orders.drop(orders.idxmin())):
            order_note += (
                f" At the other ε with a range of more than {high - low:.0f} points it is {others.min():+z.2f} or more."
            )
    widest = eps_label(spread.idxmax(), dataset) + (", the largest here" if spread.idxmax() == means.index[-1] else "")
    return (
        f"Over {means.shape[1]} variants (scale {ours.attrs['scale']}) the range of robust accuracy is {spread.iloc[0]:.1f} "
        f"points at ε = 0 and {spread[paper_budget]:.1f} at the paper's ε = {eps_label(eps, dataset)}. It is largest, "
        f"**{spread.max():.1f}**, at ε = {widest}.{order_note} The 95% interval of an accuracy on {images} "
        f"test images is at most ±{(high - low) / 2:.0f} points."
    )


# The change of a network's weights before the attack, by the metric's suffix.
_CHANGED = {
    "as_trained": "as trained (float32)",
    "half": "all in half precision",
    "tiny_zero": "weights that half precision rounds to 0 set to 0",
    "half_but_tiny": "all other weights in half precision",
    "tiny_shrunk": "the weights that round to 0 at a millionth of their size",
    "tiny_flipped": "the weights that round to 0 with the other sign",
}


def _withstands(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row an image, one column a change that is computed: whether the image withstands the attack."""
    rows = outcomes.assign(change=outcomes["metric"].str.removeprefix("robust_accuracy_weights_"))
    rows = rows[rows["change"].isin(list(_CHANGED))]
    return rows.pivot(index=["seed", "image"], columns="change", values="held").astype(bool)


def half_table(outcomes: pd.DataFrame) -> Table:
    """Robust accuracy in percent with a network's weights changed, and how many images stand or fall beside the network itself.

    `outcomes`: as `results.outcomes` gives them for `half-precision`.
    """
    by_image = _withstands(outcomes)
    rows = []
    for change, label in _CHANGED.items():
        robust = 100 * by_image[change].mean() if change in by_image else np.nan
        moved: tuple[float, float] = (np.nan, np.nan)
        if change in by_image and "as_trained" in by_image:
            withstands, withstood = by_image[change], by_image["as_trained"]
            moved = int((withstands & ~withstood).sum()), int((withstood & ~withstands).sum())
        rows.append((label, robust, *moved))
    columns = [Column("weights"), Column("robust accuracy", ".1f")]
    return Table([*columns, Column("robust only as changed", "d"), Column("robust only as trained", "d")], rows)


def half_summary(outcomes: pd.DataFrame) -> str:
    """How half precision changes robust accuracy, and which of the rounded weights cause this."""
    by_image = _withstands(outcomes)
    if not {*_CHANGED} <= {*by_image.columns}:
        if outcomes.attrs["complete"] == outcomes.attrs["expected"]:  # a failed training has no missing evaluations
            return "The training failed at this scale: there is no network to attack."
        return f"Not computed yet; {to_compute(outcomes)}"
    robust = 100 * by_image.mean()
    all_half, tiny_alone = robust["half"] - robust["as_trained"], robust["tiny_zero"] - robust["as_trained"]
    others_half, size, sign = (robust[name] - robust["as_trained"] for name in ("half_but_tiny", "tiny_shrunk", "tiny_flipped"))
    return (
        f"On {len(by_image)} test images (scale {outcomes.attrs['scale']}) half precision changes robust accuracy by "
        f"**{all_half:+z.1f} points**. Setting only the weights to 0 that it rounds to 0 changes it by {tiny_alone:+z.1f}, "
        f"rounding all others by {others_half:+z.1f}. Shrinking those weights to a millionth of their size changes it by "
        f"{size:+z.1f}, flipping their sign by {sign:+z.1f}."
    )


def curve_figure(ours: pd.DataFrame) -> Figure:
    """Robust accuracy against ε, one line a variant, up to twice the paper's budget, which is marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        curve = eps_curve(ours)
        if curve.empty:
            return not_yet(figure, ours)
        block = grid.exhibit(ours.attrs["exhibit"])
        eps = paper_eps(block["dataset"])
        unit = 1 if eps > 0.05 else 1 / 255
        ax = figure.subplots()
        for name, look in looks_of(transforms_of(ours)).items():
            of_variant = curve[(curve["transform"] == name) & (curve["eps"] <= 2 * eps)]
            means = of_variant.groupby("eps")["value"].mean()
            if len(means):
                ax.plot(means.index / unit, means, linewidth=1.4, label=transform_label(name), **look | {"markersize": 3.5})
        ax.axvline(eps / unit, color="grey", linewidth=0.8, linestyle=":")
        ax.annotate("the paper's ε", (eps / unit, 101), (3, 0), textcoords="offset points", fontsize=8, color="dimgrey")
        ax.set(xlabel="ε" if unit == 1 else "ε, in 1/255", ylabel="robust accuracy (% of test images)", ylim=(-2, 104))
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


for _name in ("mnist", "cifar10"):
    exhibit(f"strength-{_name}", strength_table, outcomes(f"strength-{_name}"))
    exhibit(f"strength-{_name}-seen", strength_summary, outcomes(f"strength-{_name}"))
    exhibit(f"curve-{_name}", curve_figure, runs(f"curve-{_name}"))
    exhibit(f"curve-{_name}-table", curve_table, runs(f"curve-{_name}"))
    exhibit(f"curve-{_name}-seen", curve_summary, runs(f"curve-{_name}"))
    exhibit(f"masking-{_name}", masking_table, outcomes(f"strength-{_name}"), runs(f"curve-{_name}"))
    exhibit(f"masking-{_name}-seen", masking_summary, outcomes(f"strength-{_name}"), runs(f"curve-{_name}"))
exhibit("half-precision", half_table, outcomes("half-precision"))
exhibit("half-precision-seen", half_summary, outcomes("half-precision"))
