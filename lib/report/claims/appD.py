"""The claims of Appendix D."""

from itertools import pairwise

import pandas as pd

from lib.report.claims.evidence import (
    COMPARABLE,
    DIMENSION,
    MNIST,
    PUBLISHED,
    ROBUST,
    SATURATION,
    SMOOTHING,
    AbsentError,
    Finding,
    Records,
)
from lib.report.claims.judging import STRONG_CORRELATION, all_hold, claim, falls, monotone, more, rises, share, shown, together
from lib.report.claims.sec3_4 import AT_2
from lib.report.claims.sec5_6 import rank_correlations, unboxed_steps
from lib.store.intervals import Estimate


def _smoothing_enlarges(r: Records) -> Finding:
    return monotone(r.measured("mnist", "log2_perturbable_volume", MNIST), 1, "{:.0f}")


def _saturation_shrinks(r: Records) -> Finding:
    return monotone(r.measured("cifar10", "log2_perturbable_volume", SATURATION[AT_2:]), -1, "{:.0f}")


def _little_volume_lost(r: Records) -> Finding:
    loss = 1 - r.position("cifar10", "original")
    bits = loss * DIMENSION["cifar10"]
    # The paper's number has lost its decimals.
    bits_range = f"{bits:.0f} to {bits + 1:.0f}" if r.scale == PUBLISHED else f"{bits:.0f}"
    return Finding(loss < 0.05, f"{bits_range} bits, {100 * loss:.1f}% of the range")


def _weaker_unboxed(r: Records) -> Finding:
    steps = unboxed_steps(r)
    higher = [f"{name} {step}" for name, step in steps.items() if step.rises]
    evidence = f"{len(higher)} of {len(steps)}{': ' if higher else ''}{', '.join(higher)}"
    return shown(bool(higher), any(step.high > 0 for step in steps.values()), evidence)


def _farthest_apart(r: Records) -> Finding:
    distances = r.measured("mnist", "inter_class_distance", MNIST)
    if not {"binarize", "original"} <= distances.keys():
        raise AbsentError(f"needs inter_class_distance of mnist binarize and original; recorded: {', '.join(distances)}")
    others = max(value for name, value in distances.items() if name != "binarize")
    evidence = f"binarized {distances['binarize']:.3f}, the next {others:.3f}, original {distances['original']:.3f}"
    return Finding(distances["binarize"] - others >= 0.1 * distances["original"], evidence)


def _brings_closer(r: Records) -> Finding:
    distances = r.measured("mnist", "inter_class_distance", SMOOTHING[1:])
    falls = monotone(distances, -1, "{:.3f}")
    most = max(1 - after / before for before, after in pairwise(distances.values()))
    return Finding(falls.holds and most <= 0.05, f"{falls.evidence}; the largest step {100 * most:.1f}%")


def _nearly_1(r: Records) -> Finding:
    parts = {}
    for dataset, variants in (("mnist", MNIST), ("cifar10", SATURATION)):
        shares = r.measured(dataset, "linf_distance_share_above_0.9", variants, at_least=1)
        parts |= {f"{dataset} {name}": Finding(above >= 0.99, f"{100 * above:.2f}%") for name, above in shares.items()}
    return all_hold(parts)


def _exception(r: Records) -> Finding:
    original, smooth = r.measured("mnist", "inter_class_distance", ["original", "smooth-2"]).values()
    robust = more(*(r.accuracy("mnist", name, ROBUST) for name in ("original", "smooth-2")))
    return Finding(original < smooth, f"distance {original:.3f} against {smooth:.3f}") & robust


def _spheres(r: Records) -> pd.DataFrame:
    return r.table("spheres", "d", "width", "gap", "training", "clean_accuracy", "robust_accuracy")


def _robust_share(rows: pd.DataFrame, metric: str = "robust_accuracy") -> Estimate:
    row = rows.iloc[0]
    return share(row[metric] * row["n"], row["n"])


def _gap_matters(r: Records) -> Finding:
    parts = {}
    for d, rows in _spheres(r).groupby("d"):
        narrow = rows[rows["width"] == rows["width"].min()]
        by_training = {training: dict(list(part.groupby("gap"))) for training, part in narrow.groupby("training")}
        gaps = sorted(by_training["pgd"])
        losses_by_gap = {}
        for gap in gaps[:-1]:
            robust = _robust_share(by_training["pgd"][gap]) - _robust_share(by_training["pgd"][gaps[-1]])
            clean, wide = (_robust_share(by_training["standard"][of_gap], "clean_accuracy") for of_gap in (gap, gaps[-1]))
            losses_by_gap[gap] = robust, clean - wide
        gap = min(losses_by_gap, key=lambda gap: (losses_by_gap[gap][0] - losses_by_gap[gap][1]).high)
        robust, loss = losses_by_gap[gap]
        conditions = [falls(robust, COMPARABLE), falls(robust - loss)]
        parts[f"{d:.0f} dimensions, gap {gap:g}"] = together(conditions, f"robust {robust}, clean {loss}")
    return all_hold(parts)


def _width_matters(r: Records) -> Finding:
    parts = {}
    for d, rows in _spheres(r).groupby("d"):
        pgd = rows[(rows["training"] == "pgd") & (rows["gap"] == rows["gap"].min())]
        narrow, wide = (pgd[pgd["width"] == width] for width in (pgd["width"].min(), pgd["width"].max()))
        gain = _robust_share(wide) - _robust_share(narrow)
        parts[f"{d:.0f} dimensions"] = rises(gain, COMPARABLE)
    return all_hold(parts)


def _linear_margin(r: Records) -> Finding:
    rows = r.table("blobs", "eps", "margin", "largest_margin").sort_values("eps")
    shares = {f"ε = {row.eps:.3g}": row.margin / row.largest_margin for row in rows.itertuples()}
    rises = monotone(shares, 1, "{:.3f}")
    return Finding(rises.holds and max(shares.values()) >= 0.95, rises.evidence)


claim(
    "D.1-smoothing-enlarges-the-volume",
    "Smoothing enlarges the perturbable volume of MNIST at every level; binarized MNIST has the smallest volume.",
    _smoothing_enlarges,
)
claim(
    "D.1-saturation-shrinks-the-volume",
    "Saturation shrinks the perturbable volume of CIFAR10 at every level.",
    _saturation_shrinks,
    certain="each level moves every pixel nearer to 0 or 1",
)
claim(
    "D.1-original-cifar10-loses-little-volume",
    "The perturbable volume of original CIFAR10 is very close to the largest possible: less than 5% of the valid range below "
    "it.",
    _little_volume_lost,
)
claim(
    "D.1-leaving-the-box-does-not-reduce-accuracy",
    "Allowing PGD to leave the box does not lower robust accuracy on any variant, beyond the interval. The mark of Table 7 is "
    "weaker: it allows 3 points.",
    lambda r: all_hold({name: Finding(not step.falls, f"{step}") for name, step in unboxed_steps(r).items()}),
)
claim(
    "D.1-leaving-the-box-can-weaken-the-attack",
    "In some cases leaving the box makes PGD slightly less effective: on at least one variant robust accuracy is higher "
    "without the box, beyond the interval.",
    _weaker_unboxed,
)
claim(
    "D.2.1-binarized-mnist-is-farthest-apart",
    "Binarized MNIST has the largest inter-class distance of the MNIST variants. It exceeds the next by at least a tenth of "
    "the original's distance.",
    _farthest_apart,
)
claim(
    "D.2.1-smoothing-brings-classes-closer",
    "From smoothing size 2 on, the inter-class distance of MNIST falls slightly at every level, by no more than 5%.",
    _brings_closer,
)
claim(
    "D.2.1-saturation-moves-classes-apart",
    "The inter-class distance of CIFAR10 rises at every saturation level.",
    lambda r: monotone(r.measured("cifar10", "inter_class_distance", SATURATION), 1, "{:.3f}"),
)
claim(
    "D.2.1-the-correlation-is-strong",
    "The correlation of inter-class distance with robust accuracy is strong: Spearman's ρ is at least .7 on MNIST and on "
    "CIFAR10 variants (at least 5 of each).",
    lambda r: rank_correlations(r, lambda rho, _: rho >= STRONG_CORRELATION),
)
claim(
    "D.2.1-linf-distances-are-nearly-1",
    "The ℓ∞ distance between images of different classes is always very close to 1: it is above .9 for at least 99% of the "
    "pairs, on every variant of MNIST and CIFAR10 that is measured.",
    _nearly_1,
)
claim(
    "D.2.1-the-original-is-the-exception",
    "Inter-class distance does not always order the variants by robustness: original MNIST has a smaller distance than "
    "smooth-2 and is more robust, beyond the interval.",
    _exception,
)
claim(
    "D.2.2-small-gaps-defeat-narrow-networks",
    "As the gap between two concentric spheres shrinks, the narrowest network loses more robust accuracy (adversarial "
    "training) than clean accuracy (standard training). In every dimension there is a gap, the one at which the two differ "
    "most, at which it has lost more than 3 points of robust accuracy, and more robust than clean accuracy, beyond the "
    "interval.",
    _gap_matters,
)
claim(
    "D.2.2-wider-networks-separate-small-gaps",
    "At the smallest gap the widest network reaches more robust accuracy than the narrowest, by more than 3 points, beyond the "
    "interval, in every dimension.",
    _width_matters,
)
claim(
    "D.2.2-linear-adversarial-training-maximises-the-margin",
    "For a linear classifier adversarial training maximises the margin: the margin grows with the budget, up to at least 95% "
    "of the largest possible margin.",
    _linear_margin,
)
