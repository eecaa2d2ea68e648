"""The strength of the attack: the suite, the checks for gradient masking, and robust accuracy against eps."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from lib.exhibits.cells import MISSING, extent, paper_eps, to_compute, transform_label
from lib.intervals import interval
from lib.store import grid

# The attacks of the suite, by their metric's suffix, from the weakest in kind to the strongest.
ATTACKS = {
    "transfer": "transfer: the paper's PGD, on the standardly trained twin",
    "fgsm": "FGSM: one step of ε",
    "reference": "**the paper's PGD**",
    "bim": "BIM: PGD from the image itself",
    "momentum": "PGD with momentum",
    "margin": "PGD on the margin (CW loss)",
    "100_steps": "PGD, 100 steps",
    "1000_steps": "PGD, 1000 steps",
    "restarts": "PGD, 100 steps, 10 starts, every iterate counts",
    "autoattack": "AutoAttack",
}


def _held(outcomes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By transform: one row an image (of a seed), one column an attack, whether it held."""
    if outcomes.empty:
        return {}
    rows = outcomes.assign(metric=outcomes["metric"].str.removeprefix("robust_accuracy_"))
    rows = rows[rows["metric"].isin(ATTACKS)]
    return {
        transform: group.pivot(index=["seed", "image"], columns="metric", values="held")
        for transform, group in rows.groupby("transform", sort=False)
    }


def strength_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent under each attack of the suite, and in brackets its difference from the paper's attack.

    `outcomes`: as `results.outcomes` gives them; all attacks are on the same images. The last row is the worst case: an image
    counts only if it withstands every attack there is a record of, two at least.
    """
    held = _held(outcomes)
    transforms = grid.exhibit(outcomes.attrs["exhibit"])["transform"]
    rows = []
    for attack, label in {**ATTACKS, "together": "all of them together"}.items():
        row = {"attack": label}
        for transform in transforms:
            found = held.get(transform, pd.DataFrame())
            if len(found.columns) > 1:
                found = found.assign(together=found.all(axis=1))
            if attack not in found:
                row[transform_label(transform)] = MISSING
                continue
            mean = 100 * found[attack].mean()
            apart = (
                f" ({mean - 100 * found['reference'].mean():+.1f})" if "reference" in found and attack != "reference" else ""
            )
            row[transform_label(transform)] = f"{mean:.1f}{apart}"
        rows.append(row)
    return pd.DataFrame(rows)


def strength_seen(outcomes: pd.DataFrame) -> str:
    """What the suite takes off the paper's robust accuracy, at most, and what becomes of the variants' order and range."""
    held = {name: found for name, found in _held(outcomes).items() if "reference" in found and len(found.columns) > 1}
    if not held:
        return f"Not computed yet; {to_compute(outcomes)}"
    reference = pd.Series({name: 100 * found["reference"].mean() for name, found in held.items()})
    worst = pd.Series({name: 100 * found.all(axis=1).mean() for name, found in held.items()})
    single = {name: 100 * found.drop(columns="reference").mean() for name, found in held.items()}
    strongest = {name: ATTACKS[means.idxmin()].split(":")[0] for name, means in single.items()}
    said = "; ".join(
        f"{transform_label(name)} {reference[name]:.1f}% to {worst[name]:.1f}% (the strongest alone: {strongest[name]})"
        for name in held
    )
    sizes = " and ".join(map(str, sorted({len(found) for found in held.values()})))
    off = reference - worst
    span = f"{off.min():.1f} to {off.max():.1f}" if len(off) > 1 else f"{off.iloc[0]:.1f}"
    kept = list(reference.sort_values().index) == list(worst.sort_values().index)
    order = ""
    if len(held) > 1:
        order = (
            f" The order of the {len(held)} variants **{'stays' if kept else 'changes'}**; they span {extent(reference):.1f} "
            f"points under the paper's attack, and **{extent(worst):.1f}** under these together."
        )
    every = all(found.columns.isin(ATTACKS).sum() == len(ATTACKS) for found in held.values())
    return (
        f"On {sizes} test images (scale {outcomes.attrs['scale']}), {'all' if every else 'the'} attacks "
        f"{'' if every else 'that are computed '}together take **{span} points** off what the "
        f"paper's attack leaves: {said}.{order}"
    )


def eps_curve(ours: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy against eps: rows `transform`, `seed`, `eps`, `value`, `n`."""
    rows = ours[ours["metric"].str.startswith("robust_accuracy_eps_") & (ours["split"] == "test")]
    # A metric's name has six digits of its budget; the budgets themselves are the grid's.
    run = grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])[0]
    exact = {f"{eps:g}": eps for eps in grid.evaluation_settings(run, "eps-curve")["eps"]}
    rows = rows.assign(eps=[exact[name.removeprefix("robust_accuracy_eps_")] for name in rows["metric"]])
    return rows[["dataset", "transform", "seed", "eps", "value", "n"]].dropna(subset="value")


def _fallen(weaker: pd.Series, stronger: pd.Series) -> str:
    """Whether an attack that should be the stronger one leaves no more images: both outcomes on the same images.

    An excess of images counts against it only if chance would not explain it: an exact one-sided sign test at 5%.
    """
    more, fewer = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    if more <= fewer:
        return "holds"
    chance = binomtest(more, more + fewer, alternative="greater").pvalue
    return "holds, within chance" if chance > 0.05 else "**fails**"


def masking_table(outcomes: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """The checks for gradient masking (Athalye et al., 2018; Carlini et al., 2019), one column a variant of the suite.

    `outcomes` of the suite, `curve` the frame of robust accuracy against eps. "–" marks what is not computed.
    """
    held, against = _held(outcomes), eps_curve(curve)
    pairs = {
        "one step does less than many": ("fgsm", "reference"),
        "a transferred attack does less than one on the model itself": ("transfer", "reference"),
        "100 steps do no less than the paper's": ("reference", "100_steps"),
        "1000 steps do no less than 100": ("100_steps", "1000_steps"),
        "AutoAttack does no less than the paper's": ("reference", "autoattack"),
    }
    rows = []
    for label, (weaker, stronger) in pairs.items():
        row = {"check": label}
        for transform in grid.exhibit(outcomes.attrs["exhibit"])["transform"]:
            found = held.get(transform, pd.DataFrame())
            cell = MISSING
            if weaker in found and stronger in found:
                left = " → ".join(f"{100 * found[attack].mean():.1f}" for attack in (weaker, stronger))
                cell = f"{_fallen(found[weaker], found[stronger])} ({left})"
            row[transform_label(transform)] = cell
        rows.append(row)
    growing, grey, ending = ({"check": label} for label in (
        "a larger ε leaves no more images", "at ε = ½, where all images can be made grey, at most chance is left",
        "at ε = 1 nothing is left",
    ))  # fmt: skip
    for transform in grid.exhibit(outcomes.attrs["exhibit"])["transform"]:
        means = against[against["transform"] == transform].groupby("eps")["value"].mean()
        variant = transform_label(transform)
        if means.empty:
            growing[variant] = grey[variant] = ending[variant] = MISSING
            continue
        rise = means.diff().max()
        # A point in a hundred is what an attack from a random start may differ by.
        growing[variant] = "holds" if rise <= 0 else f"{'holds' if rise <= 1 else '**fails**'} (but for +{rise:.1f} points)"
        for row, eps, allowed in ((grey, 0.5, 100 / 10), (ending, 1.0, 0.0)):
            value = means.get(eps, np.nan)
            row[variant] = f"{'holds' if value <= allowed else '**fails**'} ({value:.1f})" if np.isfinite(value) else MISSING
    table = pd.DataFrame([*rows, growing, grey, ending])
    table.attrs["command"] = outcomes.attrs["command"]
    return table


def masking_seen(table: pd.DataFrame) -> str:
    """How many of the checks of a `masking_table` hold, and which fail."""
    cells = table.set_index("check").stack()
    told = cells[cells != MISSING]
    failed = told[told.str.startswith("**fails**")]
    if told.empty:
        return f"Not computed yet; {to_compute(table)}"
    listed = "; ".join(f"{check} ({variant})" for check, variant in failed.index)
    return f"**{len(told) - len(failed)} of {len(told)} checks hold**" + (f"; those that fail: {listed}." if listed else ".")


def curve_table(ours: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent at some budgets, and the budget at which half of the images fall, by variant."""
    curve = eps_curve(ours)
    block = grid.exhibit(ours.attrs["exhibit"])
    dataset = block["dataset"]
    rows = []
    for transform in block["transform"]:
        means = curve[curve["transform"] == transform].groupby("eps")["value"].mean()
        row = {"variant": transform_label(transform)}
        for share in (0, 0.5, 1, 1.5):
            eps = share * paper_eps(dataset)
            near = means[np.isclose(means.index, eps, rtol=1e-4, atol=1e-9)]
            label = f"ε = {eps_label(eps, dataset)}{'' if eps else ' (clean)'}"
            row[label] = f"{near.iloc[0]:.1f}" if len(near) else MISSING
        half = half_eps(means)
        row["half fall at ε ="] = (eps_label(half, dataset) if np.isfinite(half) else "beyond") if len(means) else MISSING
        rows.append(row)
    return pd.DataFrame(rows)


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


def curve_seen(ours: pd.DataFrame) -> str:
    """Over which budgets the variants lie apart, and whether their order is that at the paper's budget."""
    curve = eps_curve(ours)
    dataset = grid.exhibit(ours.attrs["exhibit"])["dataset"]
    eps = paper_eps(dataset)
    wide = curve.groupby(["eps", "transform"])["value"].mean().unstack()
    if wide.shape[1] < 2:
        return f"Not computed yet: at least two variants are needed, {wide.shape[1]} are there; {to_compute(ours)}"
    wide = wide[wide.index <= 2 * eps]
    spread = wide.max(axis=1) - wide.min(axis=1)
    at = wide.index[np.abs(wide.index - eps).argmin()]
    apart = [budget for budget in wide.index[1:] if spread[budget] > 0 and spread[at] > 0]
    orders = pd.Series({budget: spearmanr(wide.loc[budget], wide.loc[at]).statistic for budget in apart}, dtype=float)
    kept = (
        f" The variants' order at other budgets has a rank correlation of at least {orders.min():+.2f} with that at the paper's"
        f" (least at ε = {eps_label(orders.idxmin(), dataset)})."
        if len(orders)
        else ""
    )
    images = int(curve["n"].min())
    low, high = interval(50, images)
    return (
        f"Over {wide.shape[1]} variants (scale {ours.attrs['scale']}, {images} test images: a 95% interval of at most "
        f"±{(high - low) / 2:.0f} points), robust accuracy spans {spread.iloc[0]:.1f} points at "
        f"ε = 0, {spread[at]:.1f} at the paper's ε = {eps_label(eps, dataset)}, and most, **{spread.max():.1f}**, at "
        f"ε = {eps_label(spread.idxmax(), dataset)}.{kept}"
    )


# What is done to a network's weights before it is attacked, by the metric's suffix.
_CHANGED = {
    "as_trained": "as trained (float32)",
    "half": "all in half precision",
    "tiny_zero": "only those set to 0 that half precision rounds to 0",
    "half_but_tiny": "all in half precision but those",
    "tiny_shrunk": "only those, a millionth of their size",
    "tiny_flipped": "only those, with the other sign",
}


def _stands(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row an image, one column a change that is computed: whether the image withstands the attack."""
    rows = outcomes.assign(change=outcomes["metric"].str.removeprefix("robust_accuracy_weights_"))
    rows = rows[rows["change"].isin(list(_CHANGED))]
    return rows.pivot(index=["seed", "image"], columns="change", values="held").astype(bool)


def half_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent with a network's weights changed, and how many images stand or fall beside the network itself.

    `outcomes`: as `results.outcomes` gives them for `half-precision`.
    """
    found = _stands(outcomes)
    rows = []
    for change, label in _CHANGED.items():
        there = change in found and "as_trained" in found
        more, fewer = (
            (int((found[change] & ~found["as_trained"]).sum()), int((found["as_trained"] & ~found[change]).sum()))
            if there
            else (0, 0)
        )
        rows.append(
            {
                "weights": label,
                "robust accuracy": f"{100 * found[change].mean():.1f}" if change in found else MISSING,
                "stand that fell": str(more) if there else MISSING,
                "fall that stood": str(fewer) if there else MISSING,
            }
        )
    return pd.DataFrame(rows)


def half_seen(outcomes: pd.DataFrame) -> str:
    """What half precision does to the attack, and which of its roundings it is."""
    found = _stands(outcomes)
    if not {*_CHANGED} <= {*found.columns}:
        if outcomes.attrs["complete"] == outcomes.attrs["expected"]:  # a failed training lacks nothing
            return "The training failed at this scale: there is no network to attack."
        return f"Not computed yet; {to_compute(outcomes)}"
    robust = 100 * found.mean()
    whole, part = robust["half"] - robust["as_trained"], robust["tiny_zero"] - robust["as_trained"]
    rest, size, sign = (robust[name] - robust["as_trained"] for name in ("half_but_tiny", "tiny_shrunk", "tiny_flipped"))
    return (
        f"On {len(found)} test images (scale {outcomes.attrs['scale']}) half precision adds **{whole:+.1f} points** to what "
        f"the attack leaves. Zeroing only the weights that it rounds to 0 adds {part:+.1f}, rounding all others {rest:+.1f}. A "
        f"millionth of their size changes {size:+.1f}, their other sign {sign:+.1f}."
    )
