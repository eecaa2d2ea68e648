"""The claims of Sections 3 and 4."""

from collections.abc import Sequence

from lib.report.claims.evidence import (
    COMPARABLE,
    DIMENSION,
    FASHION,
    GAMMAS,
    MNIST,
    PGD_CLEAN,
    PUBLISHED,
    ROBUST,
    SATURATION,
    SMOOTHING,
    STANDARD_CLEAN,
    TO_PREDICTIONS,
    AbsentError,
    Finding,
    Records,
)
from lib.report.claims.judging import (
    MUCH_MORE,
    all_hold,
    almost_the_same,
    at_least,
    claim,
    differences,
    more,
    range_of,
    rises,
    shown,
    stable,
    together,
    trend,
    varies,
    within,
)
from lib.store.intervals import Estimate

AT_2, AT_16, _AT_64 = (SATURATION.index(name) for name in ("original", "saturate-16", "saturate-64"))


def _more_binary(r: Records) -> Finding:
    mnist, cifar10 = (r.position(name, "original") for name in ("mnist", "cifar10"))
    return Finding(mnist < 0.5 < cifar10, f"MNIST at {100 * mnist:.0f}% of its range, CIFAR10 at {100 * cifar10:.0f}%")


def _on_corners(r: Records) -> Finding:
    bits_by_set = {
        f"{dataset} {variant}": DIMENSION[dataset] * r.position(dataset, variant)
        for dataset, variant in (("mnist", "binarize"), ("cifar10", "saturate-inf"))
    }
    return all_hold({name: Finding(abs(bits) < 1, f"{bits:+z.2f} bits") for name, bits in bits_by_set.items()})


def _keep_their_meaning(r: Records) -> Finding:
    parts = {}
    for dataset, variants in (("mnist", MNIST), ("cifar10", SATURATION[AT_2 : AT_16 + 1])):
        estimates = r.accuracies(dataset, STANDARD_CLEAN, variants)
        if "original" not in estimates:
            raise AbsentError(f"needs clean_accuracy of standard training on {dataset} original")
        gaps = {name: estimate - estimates["original"] for name, estimate in estimates.items() if name != "original"}
        parts |= {f"{dataset} {name}": at_least(gap, -COMPARABLE) for name, gap in gaps.items()}
    return all_hold(parts)


def _strongest(r: Records) -> Finding:
    parts = {}
    metrics = (f"robust_accuracy_{attack}" for attack in ("reference", "square", "restarts", "autoattack"))
    for model, (pgd, square, restarts, autoattack) in r.under_all(metrics, "strength").items():
        change = square.of_one_training() - pgd.of_one_training()
        evidence = (
            f"Square {change}; PGD itself, longer and with restarts, {restarts.value - pgd.value:+z.1f}; AutoAttack "
            f"{autoattack.value - pgd.value:+z.1f}"
        )
        parts[model] = Finding(not change.falls, evidence)
    if not parts:
        raise AbsentError("needs the robust accuracy of a model under PGD, Square, PGD with restarts and AutoAttack")
    return all_hold(parts)


def _little_cost(r: Records) -> Finding:
    change = differences(*(r.accuracies("mnist", quantity, MNIST, at_least=1) for quantity in (STANDARD_CLEAN, PGD_CLEAN)))
    return all_hold({name: at_least(step, -COMPARABLE) for name, step in change.items()})


def _rises_to_16(r: Records) -> Finding:
    robust = r.accuracies("cifar10", ROBUST, SATURATION[AT_2 : AT_16 + 1])
    last = list(robust)[-1]
    grows = trend(robust, 1, large=True, start="original")
    first_clean, last_clean = (r.accuracy("cifar10", name, PGD_CLEAN) for name in ("original", last))
    gain, change = robust[last] - robust["original"], last_clean - first_clean
    return grows & shown(
        gain.value >= -MUCH_MORE * change.value, gain.high >= -MUCH_MORE * change.high, f"clean accuracy changes by {change}"
    )


def _numbers_before_16(r: Records) -> Finding:
    r.paper_settings("cifar10")
    parts = {}
    for quantity, numbers in ((ROBUST, (43.2, 79.7)), (PGD_CLEAN, (85.4, 80.0))):
        for variant, number in zip(("original", "saturate-16"), numbers, strict=True):
            estimate = r.accuracy("cifar10", variant, quantity)
            holds = abs(estimate.value - number) < 0.05 if r.scale == PUBLISHED else estimate.low <= number <= estimate.high
            parts[f"{quantity[1]} of {variant}"] = Finding(
                holds, f"{estimate.value:.1f}, not {number:.1f}" if not holds else f"{number}"
            )
    return all_hold(parts)


def _below_level_2(r: Records, quantity: tuple[str, str]) -> dict[str, Estimate]:
    r.accuracy("cifar10", "original", quantity)  # without the reference there is no comparison
    return r.accuracies("cifar10", quantity, SATURATION[: AT_2 + 1])


def _saturated_losses(r: Records) -> Finding:
    quantities = (PGD_CLEAN, ROBUST, TO_PREDICTIONS)
    clean, robust, to_predictions = (
        r.accuracies("cifar10", quantity, SATURATION[_AT_64:], at_least=1) for quantity in quantities
    )
    parts = {}
    for name, gap in differences(robust, to_predictions).items():
        if name in clean:
            misclassified = 100 - clean[name].value
            holds = round(abs(gap.value - misclassified), 6) <= COMPARABLE
            parts[name] = Finding(holds, f"gap {gap.value:.1f}, misclassified {misclassified:.1f}")
    return all_hold(parts)


def more_sensitive(r: Records, dataset: str, variants: Sequence[str], *, large: bool = False) -> Finding:
    """Robust accuracy varies, and at least twice as far as clean accuracy."""
    clean, robust = (r.accuracies(dataset, quantity, variants) for quantity in (STANDARD_CLEAN, ROBUST))
    shared = [name for name in clean if name in robust]
    if len(shared) < 2:
        raise AbsentError(f"needs clean accuracy of standard and robust accuracy of PGD training on 2 variants of {dataset}")
    (clean_range, clean_ends), (robust_range, robust_ends) = (
        range_of({name: estimates[name] for name in shared}) for estimates in (clean, robust)
    )
    twice = robust_range.value >= MUCH_MORE * clean_range.value
    evidence = f"robust {robust_ends}, {robust_range}; clean {clean_ends}, {clean_range}"
    conditions = [rises(robust_range - clean_range), shown(twice, robust_range.high >= MUCH_MORE * clean_range.low, "")]
    conditions += [rises(robust_range, COMPARABLE)] if large else []
    return together(conditions, evidence)


claim(
    "3.1-mnist-is-more-binary-than-cifar10",
    "MNIST's pixels are more binary, CIFAR10's more continuous: the perturbable volume of MNIST is in the lower half of its "
    "valid range (near the corners of the cube), that of CIFAR10 in the upper half.",
    _more_binary,
)
claim(
    "3.1-binarized-images-lie-on-corners",
    "The images of binarized MNIST and of CIFAR10 saturated to ∞ are corners of the cube: their perturbable volume is the "
    "smallest possible, within 1 bit (the paper prints whole bits).",
    _on_corners,
    certain="both round every pixel to 0 or 1",
)
claim(
    "3.1-the-variants-keep-their-meaning",
    "The variants keep the meaning of the images. No person was asked; the check uses a proxy: a network trained on a variant "
    "still classifies it. Its clean accuracy (standard training) is at most 3 points below that on the original, on all MNIST "
    "variants and on CIFAR10 from level 2 to 16.",
    _keep_their_meaning,
)
claim(
    "3.2-pgd-is-the-strongest-attack",
    "PGD is the strongest attack in general. The check takes an attack of another kind, Square, which needs no gradient: on no "
    'model (our reading of "in general") does it leave less robust accuracy than the paper\'s PGD, beyond the interval. PGD '
    "with other settings is not another attack, and AutoAttack, of 2020, contains variants of PGD; the evidence has the change "
    "by each of them, on the same images.",
    _strongest,
)
claim(
    "3.3-clean-accuracy-is-stable",
    "Over the MNIST variants the clean accuracy of standard training is stable: its values are comparable, within 3 points.",
    lambda r: stable(r.accuracies("mnist", STANDARD_CLEAN, MNIST)),
)
claim(
    "3.3-mnist-pgd-training-costs-little-clean-accuracy",
    "On MNIST variants PGD training lowers clean accuracy only slightly, by no more than 3 points.",
    _little_cost,
)
claim(
    "3.3-mnist-robustness-falls-with-smoothing",
    "From the original to the smoothest MNIST, robust accuracy and robustness w.r.t. predictions fall by more than 3 points. "
    "Neither rises at any step, beyond the intervals.",
    lambda r: (
        trend(r.accuracies("mnist", ROBUST, SMOOTHING), -1, large=True, start="original")
        & trend(r.accuracies("mnist", TO_PREDICTIONS, SMOOTHING), -1, large=True, start="original")
    ),
)
claim(
    "3.3-binarized-mnist-is-as-robust-as-accurate",
    "On binarized MNIST PGD training reaches almost the same clean and robust accuracy, within 3 points.",
    lambda r: almost_the_same(r, "mnist", PGD_CLEAN, ROBUST, ["binarize"]),
)
claim(
    "3.3-mnist-losses-come-from-vulnerability",
    "On every MNIST variant robustness w.r.t. predictions is almost the same as robust accuracy, within 3 points: the errors "
    "come from the attack, not from misclassified clean images.",
    lambda r: almost_the_same(r, "mnist", ROBUST, TO_PREDICTIONS, MNIST),
)
claim(
    "3.3-cifar10-clean-accuracy-holds-to-level-16",
    "From the original to saturation level 16 the clean accuracy of standard training is comparable, within 3 points.",
    lambda r: stable(r.accuracies("cifar10", STANDARD_CLEAN, SATURATION[AT_2 : AT_16 + 1])),
)
claim(
    "3.3-cifar10-clean-accuracy-falls-after-level-64",
    "After saturation level 64 standard training loses more than 3 points of clean accuracy, beyond the interval: the images "
    "lose information.",
    lambda r: trend(r.accuracies("cifar10", STANDARD_CLEAN, SATURATION[_AT_64:]), -1, large=True, start="saturate-64"),
)
claim(
    "3.3-cifar10-robustness-rises-to-level-16",
    "From the original to saturation level 16 the robust accuracy of PGD training rises by more than 3 points and falls at no "
    "step, beyond the intervals. It rises by at least twice as much as clean accuracy falls.",
    _rises_to_16,
)
claim(
    "3.3-cifar10-numbers-before-level-16",
    "Up to level 16 the robust accuracy of PGD training goes from 43.2% to 79.7%, and its clean accuracy from 85.4% to 80.0% "
    "(the paper's numbers to the printed digit, ours within its interval).",
    _numbers_before_16,
)
claim(
    "3.3-cifar10-clean-meets-robust-after-level-16",
    "From saturation level 16 on, the clean and the robust accuracy of PGD training are almost the same, within 3 points.",
    lambda r: almost_the_same(r, "cifar10", PGD_CLEAN, ROBUST, SATURATION[AT_16:]),
)
claim(
    "3.3-cifar10-robustness-to-predictions-keeps-rising",
    "After saturation level 16 robustness w.r.t. predictions still rises and falls at no step, beyond the intervals.",
    lambda r: trend(r.accuracies("cifar10", TO_PREDICTIONS, SATURATION[AT_16:]), 1, start="saturate-16"),
)
claim(
    "3.3-cifar10-is-less-robust-below-level-2",
    "Below saturation level 2 robust accuracy is lower than on the original: it rises from level 1 to 2 and falls at no step, "
    "beyond the intervals.",
    lambda r: trend(_below_level_2(r, ROBUST), 1),
)
claim(
    "3.3-cifar10-clean-accuracy-stays-below-level-2",
    "Below saturation level 2 the clean accuracy of PGD training is comparable to that on the original, within 3 points (the "
    "paper does not say of which training; it may mean standard training).",
    lambda r: stable(_below_level_2(r, PGD_CLEAN)),
)
claim(
    "3.3-cifar10-saturated-losses-come-from-misclassification",
    "From saturation level 64 on, robust accuracy is below robustness w.r.t. predictions by the share of misclassified clean "
    "images, within 3 points.",
    _saturated_losses,
)
claim(
    "3.3-mnist-robustness-is-more-sensitive",
    "Over the MNIST variants the range of robust accuracy (PGD training) is at least twice that of clean accuracy (standard "
    "training), and larger beyond the interval.",
    lambda r: more_sensitive(r, "mnist", MNIST),
)
claim(
    "3.3-cifar10-robustness-is-more-sensitive",
    "Over the CIFAR10 variants the range of robust accuracy (PGD training) is at least twice that of clean accuracy (standard "
    "training), and larger beyond the interval.",
    lambda r: more_sensitive(r, "cifar10", SATURATION),
)


def _cost_and_gap(r: Records, variant: str) -> tuple[Estimate, Estimate]:
    """What PGD training costs of clean accuracy, and what the attack takes besides."""
    standard, clean, robust = (
        r.accuracy("fashion_mnist", variant, quantity) for quantity in (STANDARD_CLEAN, PGD_CLEAN, ROBUST)
    )
    return standard - clean, clean.of_one_training() - robust.of_one_training()


def _like_cifar10(r: Records) -> Finding:
    cost, gap = _cost_and_gap(r, "original")
    return rises(cost, COMPARABLE, f"cost {cost}") & rises(gap, COMPARABLE, f"gap {gap}")


def _like_binarized(r: Records) -> Finding:
    cost, gap = _cost_and_gap(r, "edges")
    return at_least(-cost, -COMPARABLE, f"cost {cost}") & within(gap, COMPARABLE, f"gap {gap}")


def _harder_than_mnist(r: Records) -> Finding:
    mnist = r.accuracy("mnist", "original", STANDARD_CLEAN)
    accuracies = r.accuracies("fashion_mnist", STANDARD_CLEAN, FASHION)
    return all_hold({name: more(mnist, accuracy) for name, accuracy in accuracies.items()})


claim(
    "4.1-gamma-leaves-clean-accuracy",
    "Over gamma mappings of CIFAR10 the clean accuracy of standard training remains comparable, within 3 points.",
    lambda r: stable(r.accuracies("cifar10", STANDARD_CLEAN, GAMMAS, exhibit="figure-3a")),
)
claim(
    "4.1-gamma-moves-pgd-training",
    "Over gamma mappings of CIFAR10 both the clean and the robust accuracy of PGD training vary largely: by more than 3 "
    "points, beyond the interval.",
    lambda r: (
        varies(r.accuracies("cifar10", PGD_CLEAN, GAMMAS, exhibit="figure-3a"))
        & varies(r.accuracies("cifar10", ROBUST, GAMMAS, exhibit="figure-3a"))
    ),
)
claim(
    "4.2-fashion-resembles-cifar10",
    "On fashion-MNIST, as on CIFAR10, PGD training costs more than 3 points of clean accuracy and leaves more than 3 points "
    "between clean and robust accuracy, beyond the intervals.",
    _like_cifar10,
)
claim(
    "4.2-edges-resemble-binarized-mnist",
    "On edge-fashion-MNIST, as on binarized MNIST, PGD training costs little clean accuracy, at most 3 points, and leaves a "
    "small gap, at most 3 points, between clean and robust accuracy.",
    _like_binarized,
)
claim(
    "4.2-both-are-harder-than-mnist",
    "Fashion-MNIST and edge-fashion-MNIST are both harder than MNIST: standard training reaches less clean accuracy on them, "
    "beyond the interval.",
    _harder_than_mnist,
)
claim(
    "4.2-edges-classify-worse-than-fashion",
    "The edge images contain less information: standard training reaches less clean accuracy on them than on fashion-MNIST, "
    "beyond the interval.",
    lambda r: more(*(r.accuracy("fashion_mnist", name, STANDARD_CLEAN) for name in FASHION)),
)
claim(
    "4.2-edges-are-more-robust-than-fashion",
    "PGD training nevertheless reaches more robust accuracy on the edge images than on fashion-MNIST: more than 3 points, "
    "beyond the interval.",
    lambda r: more(*(r.accuracy("fashion_mnist", name, ROBUST) for name in reversed(FASHION)), large=True),
)
