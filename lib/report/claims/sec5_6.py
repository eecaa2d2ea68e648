"""The claims of Sections 5 and 6."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from scipy.stats import spearmanr

from lib.report.claims.evidence import (
    COMPARABLE,
    MNIST,
    PGD_CLEAN,
    PLATEAU,
    ROBUST,
    SATURATION,
    STANDARD_CLEAN,
    AbsentError,
    Finding,
    Records,
)
from lib.report.claims.judging import all_hold, claim, differences, falls, more, range_of, rises, shown, trend, within
from lib.report.claims.sec3_4 import AT_16, more_sensitive
from lib.store.intervals import Estimate


def _volume_factor(r: Records) -> Finding:
    if r.cifar10 != "cifar10" or r.scale == "smoke":
        raise AbsentError(f"needs the exact CIFAR10; recorded: {r.cifar10}, scale {r.scale}")
    original, saturated = r.measured("cifar10", "log2_perturbable_volume", ["original", "saturate-inf"]).values()
    return Finding(round(original - saturated) == 2990, f"{original:.0f} - ({saturated:.0f}) = {original - saturated:.0f} bits")


def _boxed_and_unboxed(r: Records) -> dict[str, tuple[dict[str, Estimate], dict[str, Estimate]]]:
    """By data set: robust accuracies within the box, and of the attack that may leave it, of the same variants."""
    by_dataset = {}
    for dataset, variants in (("mnist", MNIST), ("cifar10", SATURATION)):
        quantities = (ROBUST, ("pgd", "robust_accuracy_unboxed"))
        boxed, unboxed = (
            r.accuracies(dataset, quantity, variants, at_least=0, exhibit=f"table-7-{dataset}") for quantity in quantities
        )
        shared = [name for name in boxed if name in unboxed]
        if shared:
            by_dataset[dataset] = tuple({name: estimates[name] for name in shared} for estimates in (boxed, unboxed))
    if sum(len(boxed) for boxed, _ in by_dataset.values()) < 2:
        raise AbsentError("needs robust_accuracy and robust_accuracy_unboxed of 2 variants")
    return by_dataset


def unboxed_steps(r: Records) -> dict[str, Estimate]:
    """The change of robust accuracy when the attack may leave the box, by data set and variant."""
    return {
        f"{dataset} {name}": step
        for dataset, boxed_and_unboxed in _boxed_and_unboxed(r).items()
        for name, step in differences(*boxed_and_unboxed, one_training=True).items()
    }


def _box_is_no_cause(r: Records) -> Finding:
    parts = {}
    for dataset, (boxed, unboxed) in _boxed_and_unboxed(r).items():
        (before, _), (after, _), changes = range_of(boxed), range_of(unboxed), differences(boxed, unboxed, one_training=True)
        largest = max(changes, key=lambda name: abs(changes[name].value))
        same_range = round(abs(after.value - before.value), 6) <= COMPARABLE
        ranges = Finding(same_range, f"range {before.value:.1f}, unboxed {after.value:.1f}")
        parts[dataset] = ranges & within(changes[largest], COMPARABLE, f"moved most: {largest} {changes[largest]}")
    return all_hold(parts)


def _same_distance(r: Records) -> Finding:
    smoothed = r.accuracies("mnist", ROBUST, [f"smooth-{size}" for size in (3, 4, 5)], at_least=1)
    parts = {}
    for start in ("rescale-to-", "binarize+rescale-to-"):
        scaled = r.accuracies("mnist", ROBUST, [start + name for name in smoothed], at_least=1)
        parts |= {name: more(estimate, smoothed[name.removeprefix(start)]) for name, estimate in scaled.items()}
    return all_hold(parts)


def rank_correlations(r: Records, judge: Callable[[float, float], bool]) -> Finding:
    """Of inter-class distance and robust accuracy over the variants of each set: `judge` of Spearman's ρ and its p value."""
    parts = {}
    for dataset, variants in (("mnist", MNIST), ("cifar10", SATURATION)):
        distances = r.measured(dataset, "inter_class_distance", variants, at_least=5)
        robust = r.accuracies(dataset, ROBUST, distances, at_least=5)
        points = [(distances[name], estimate.value) for name, estimate in robust.items()]
        correlation = spearmanr(*zip(*points, strict=True), alternative="greater")
        evidence = f"ρ = {correlation.statistic:.2f} over {len(points)} variants, one-sided p = {correlation.pvalue:.2g}"
        parts[dataset] = Finding(bool(judge(correlation.statistic, correlation.pvalue)), evidence)
    return all_hold(parts)


def _beyond_width_1(by_width: Mapping[float, Estimate]) -> Finding:
    """No wider network is better by more than 1 point: the whole interval of the largest gain is below."""
    gains = {width: estimate - by_width[1.0] for width, estimate in by_width.items() if width > 1}
    best = max(gains, key=lambda width: gains[width].value)
    grows = rises(gains[best], PLATEAU)
    return shown(gains[best].high <= PLATEAU, not grows.holds, f"{gains[best]} at {best:g}")


def _around_width_1(r: Records, dataset: str, quantity: tuple, split: str, *, below: bool = False) -> dict[str, dict]:
    """The variants that have width 1 and a wider one (and, if asked, a narrower one)."""
    by_variant = r.over("widen_factor", dataset, quantity, split)
    around_1 = {
        name: by_width
        for name, by_width in by_variant.items()
        if 1.0 in by_width and max(by_width) > 1 and (min(by_width) < 1 or not below)
    }
    if not around_1:
        raise AbsentError(f"needs widen factor 1{', a smaller' if below else ''} and a larger one on {dataset}")
    return around_1


def _width_ignored(r: Records) -> Finding:
    parts = {}
    for split in ("train", "test"):
        for variant, by_width in r.over("widen_factor", "mnist", STANDARD_CLEAN, split).items():
            spread, _ = range_of(by_width)
            parts[f"{variant} ({split})"] = within(spread, PLATEAU)
    return all_hold(parts)


def _clean_plateau(r: Records) -> Finding:
    parts = {}
    for split in ("train", "test"):
        for variant, by_width in _around_width_1(r, "mnist", PGD_CLEAN, split, below=True).items():
            gain, plateau, at_widest = (
                by_width[1.0] - by_width[min(by_width)],
                _beyond_width_1(by_width),
                by_width[max(by_width)].value,
            )
            nearly_all = Finding(at_widest >= 100 - COMPARABLE, f"{at_widest:.1f} at {max(by_width):g}")
            parts[f"{variant} ({split})"] = rises(gain, 0.0, f"{gain} up to width 1") & plateau & nearly_all
    return all_hold(parts)


def _training_robustness(r: Records, dataset: str, *, enough: float) -> Finding:
    """On the training images each widening adds, beyond the interval, unless `enough` is reached."""
    parts = {}
    for variant, by_width in r.over("widen_factor", dataset, ROBUST, "train").items():
        widths = list(by_width)
        steps = {after: by_width[after] - by_width[before] for before, after in pairwise(widths)}
        failing = [w for w, step in steps.items() if not step.rises and by_width[w].value < enough]
        contradicted = [w for w in failing if steps[w].high <= 0]
        evidence = [f"{by_width[w].value:.1f} at {w:g}, {steps[w]}" for w in contradicted or failing or widths[-1:]]
        parts[variant] = shown(not failing, not contradicted, ", ".join(evidence))
    return all_hold(parts)


def _test_plateau(r: Records, dataset: str) -> Finding:
    return all_hold({name: _beyond_width_1(by_width) for name, by_width in _around_width_1(r, dataset, ROBUST, "test").items()})


def _robust_gap(r: Records) -> Finding:
    train, test = (_around_width_1(r, "mnist", ROBUST, split) for split in ("train", "test"))
    growth = {}
    for variant in (name for name in train if name in test):
        widest = max(train[variant].keys() & test[variant].keys())
        narrow, wide = (train[variant][width].value - test[variant][width].value for width in (1.0, widest))
        growth[variant] = wide - narrow
    shrinks = all_hold({name: Finding(step >= -PLATEAU, f"{step:+z.1f}") for name, step in growth.items()})
    mean = sum(growth.values()) / len(growth)
    return Finding(mean > 0 and shrinks.holds, f"{mean:+z.1f} on average; {shrinks.evidence}")


def _gain(estimates: Mapping[float, Estimate]) -> Estimate:
    """From the smallest to the largest."""
    return estimates[max(estimates)] - estimates[min(estimates)]


def _any_sample_fitted(r: Records) -> Finding:
    by_variant = r.over("train_size", "mnist", STANDARD_CLEAN, "train")
    lowest = {name: min(estimate.value for estimate in by_size.values()) for name, by_size in by_variant.items()}
    return all_hold({name: Finding(value >= 100 - COMPARABLE, f"at least {value:.1f}") for name, value in lowest.items()})


def _clean_grows_with_sample(r: Records) -> Finding:
    return all_hold(
        {name: trend(by_size, 1) for name, by_size in r.over("train_size", "mnist", STANDARD_CLEAN, "test").items()}
    )


def _sample_matters_more(r: Records) -> Finding:
    clean, robust = (r.over("train_size", "mnist", quantity, "test") for quantity in (STANDARD_CLEAN, ROBUST))
    extra_gains = {name: _gain(robust[name]) - _gain(clean[name]) for name in clean if name in robust}
    return all_hold({name: rises(gain) for name, gain in extra_gains.items()})


def _overfitting_shrinks(r: Records, dataset: str, exception: str = "") -> Finding:
    train, test = (r.over("train_size", dataset, ROBUST, split) for split in ("train", "test"))
    parts = {}
    for variant in (name for name in train if name in test and name != exception):
        fall, rise = _gain(train[variant]), _gain(test[variant])
        parts[variant] = falls(fall, 0.0, f"train {fall}") & rises(rise, 0.0, f"test {rise}")
    return all_hold(parts)


def _plateau_at_27000(r: Records) -> Finding:
    parts = {}
    for split in ("train", "test"):
        for variant, by_size in r.over("train_size", "mnist", ROBUST, split).items():
            if 27000 in by_size and max(by_size) > 27000:
                step = by_size[max(by_size)] - by_size[27000]
                parts[f"{variant} ({split})"] = within(step, PLATEAU)
    return all_hold(parts)


def _no_plateau(r: Records) -> Finding:
    parts = {}
    for variant, by_size in r.over("train_size", "cifar10", ROBUST, "test").items():
        before, last = sorted(by_size)[-2:]
        step = by_size[last] - by_size[before]
        parts[variant] = rises(step, 0.0, f"{step} from {before} to {last}")
    return _overfitting_shrinks(r, "cifar10") & all_hold(parts)


def _cornered_sets_differ(r: Records) -> Finding:
    gains = {}
    for quantity in (ROBUST, STANDARD_CLEAN):
        for dataset, variant in (("cifar10", "saturate-inf"), ("mnist", "binarize")):
            by_variant = r.over("train_size", dataset, quantity, "test")
            if variant not in by_variant:
                raise AbsentError(
                    f"needs {quantity[1]} of {quantity[0]} training on {dataset} {variant} at two training set sizes"
                )
            gains.setdefault(quantity, []).append(_gain(by_variant[variant]))
    (cifar10, mnist), (harder, easier) = gains[ROBUST], gains[STANDARD_CLEAN]
    robust_difference, clean_difference = cifar10 - mnist, harder - easier
    evidence = f"robust: CIFAR10 {cifar10}, MNIST {mnist}, {robust_difference}; clean, standard training: {clean_difference}"
    both = [robust_difference, robust_difference - clean_difference]
    return shown(
        all(difference.beyond(COMPARABLE) for difference in both),
        not any(difference.within(COMPARABLE) for difference in both),
        evidence,
    )


def _binarized_is_the_exception(r: Records) -> Finding:
    train, test = (r.over("train_size", "mnist", ROBUST, split) for split in ("train", "test"))
    if not ("binarize" in train and "binarize" in test):
        raise AbsentError("needs robust accuracy of PGD training on mnist binarize at two training set sizes")
    fall, rise = _gain(train["binarize"]), _gain(test["binarize"])
    moves = falls(fall, COMPARABLE).holds or rises(rise, COMPARABLE).holds
    return shown(fall.low >= -COMPARABLE and rise.high <= COMPARABLE, not moves, f"train {fall}, test {rise}")


claim(
    "5.1-volumes-differ-by-2-to-the-2990",
    "The perturbable volumes of original and ∞-saturated CIFAR10 differ by a factor of 2^2990 (the exponent in whole bits).",
    _volume_factor,
)
claim(
    "5.1-the-box-is-not-the-cause",
    "Without the box the variants differ as much as within it: the range of their robust accuracies changes by at most 3 "
    "points, and no robust accuracy moves by more than 3 points.",
    _box_is_no_cause,
)
claim(
    "5.2-the-same-distance-and-another-robustness",
    "At the same inter-class distance, scaled original and scaled binarized MNIST are more robust than smoothed MNIST, beyond "
    "the interval.",
    _same_distance,
)
claim(
    "5.2-distance-goes-along-with-robustness",
    "On MNIST and on CIFAR10 variants inter-class distance is positively correlated with robust accuracy (Spearman's ρ over at "
    "least 5 variants, one-sided p < .05).",
    lambda r: rank_correlations(r, lambda rho, p: rho > 0 and p < 0.05),
)
claim(
    "5.3-mnist-standard-training-ignores-width",
    "On MNIST variants the training and the test accuracy of standard training do not depend on the network's width: over the "
    "widths they differ by at most 1 point.",
    _width_ignored,
)
claim(
    "5.3-mnist-pgd-clean-accuracy-plateaus-at-width-1",
    "On MNIST variants the clean accuracy of PGD training, on training and on test images, rises with the width up to 1, "
    "beyond the interval. With larger widths it rises by no more than 1 point and is nearly 100% (at most 3 points below).",
    _clean_plateau,
)
claim(
    "5.3-mnist-training-robustness-grows-with-width",
    "On MNIST variants robust accuracy on the training images rises with every larger width, beyond the interval, until it is "
    "nearly 100% (at most 3 points below).",
    lambda r: _training_robustness(r, "mnist", enough=100 - COMPARABLE),
)
claim(
    "5.3-mnist-test-robustness-stops-at-width-1",
    "On MNIST variants robust accuracy on the test images stops rising after width 1: no wider network is better by more than "
    "1 point, beyond the interval.",
    lambda r: _test_plateau(r, "mnist"),
)
claim(
    "5.3-mnist-robust-generalization-gap-grows",
    "On MNIST variants the gap between robust accuracy on training and on test images grows beyond width 1: it grows on "
    "average, and shrinks by more than 1 point on no variant.",
    _robust_gap,
)
claim(
    "5.3-cifar10-training-robustness-keeps-growing",
    "On CIFAR10 variants robust accuracy on the training images rises with every larger width, beyond the interval.",
    lambda r: _training_robustness(r, "cifar10", enough=math.inf),
)
claim(
    "5.3-cifar10-test-robustness-stops-at-width-1",
    "On CIFAR10 variants robust accuracy on the test images stops rising after width 1: no wider network is better by more "
    "than 1 point, beyond the interval.",
    lambda r: _test_plateau(r, "cifar10"),
)
claim(
    "5.3-mnist-any-sample-is-fitted",
    "Standard training fits MNIST training sets of every size tested to nearly 100% (at most 3 points below).",
    _any_sample_fitted,
)
claim(
    "5.3-mnist-clean-accuracy-grows-with-the-sample",
    "On MNIST variants the clean test accuracy of standard training rises with the number of training images and falls at no "
    "step, beyond the intervals.",
    _clean_grows_with_sample,
)
claim(
    "5.3-mnist-the-sample-matters-more-for-robustness",
    "On MNIST variants more training images add more to the robust accuracy of PGD training than to the clean accuracy of "
    "standard training, beyond the interval (test images).",
    _sample_matters_more,
)
claim(
    "5.3-mnist-robust-overfitting-shrinks-with-the-sample",
    'On MNIST variants except the binarized one (the paper says "most"), robust accuracy falls '
    "on the training images and rises on the test images from the fewest to the most training images, beyond the intervals.",
    lambda r: _overfitting_shrinks(r, "mnist", exception="binarize"),
)
claim(
    "5.3-binarized-mnist-is-the-exception",
    "Binarized MNIST is the exception: from the fewest to the most training images its robust accuracy neither falls on the "
    "training images nor rises on the test images by more than 3 points, beyond the interval.",
    _binarized_is_the_exception,
)
claim(
    "5.3-mnist-plateaus-at-27000-images",
    "On MNIST variants 27,000 training images are enough: with all 60,000, robust accuracy on training and on test images "
    "changes by no more than 1 point.",
    _plateau_at_27000,
)
claim(
    "5.3-cifar10-more-images-always-help",
    "On CIFAR10 variants more training images lower robust accuracy on the training images and raise it on the test images. "
    "The last step, to all images, still raises it on the test images (all beyond the intervals).",
    _no_plateau,
)
claim(
    "5.3-cornered-sets-differ-in-sample-complexity",
    "The images of binarized MNIST and of ∞-saturated CIFAR10 are corners of the cube, but the two sets differ in sample "
    "complexity. From the fewest to the most training images, their gains in robust accuracy on test images differ by more "
    "than 3 points, beyond the interval. This difference is also more than 3 points away, beyond the interval, from the same "
    "difference in the clean accuracy of standard training, so the two tasks alone do not explain it.",
    _cornered_sets_differ,
)


def _sensitive(r: Records) -> Finding:
    up_to_16 = SATURATION[: AT_16 + 1]
    return all_hold(
        {name: more_sensitive(r, name, variants, large=True) for name, variants in (("mnist", MNIST), ("cifar10", up_to_16))}
    )


claim(
    "6-robustness-is-sensitive-to-the-distribution",
    "Robust accuracy is sensitive to transformations that keep the meaning. On MNIST and on CIFAR10 variants (up to level 16, "
    "where standard training keeps its accuracy) its range is more than 3 points, beyond the interval, and at least twice the "
    "range of clean accuracy.",
    _sensitive,
)
