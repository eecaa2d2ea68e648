"""Judges a study by its records: accuracies and their differences with intervals, and a verdict in one sentence.

The intervals hold for all pairs of changes together, because among many equal changes chance alone makes some differ. They
come from a bootstrap: it resamples the images, the same ones for every change, and adds to each accuracy a random error as
large as the spread between seeds. The largest deviation of any pair, in units of its standard error, sets the width of all.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from lib.report.words import counted, listed
from lib.sensitivity.changes import ORIGINAL
from lib.sensitivity.plan import guessing, in_pixel_units
from lib.store.records import unpack

MARGIN = 5.0  # points; the data are sensitive if robust accuracy surely moves by more
NEARLY_EQUAL = 1.1  # the largest class of equal ones may have so many times its share of the test images by rounding
DRAWS = 2000  # of the bootstrap
METRICS = {"clean": "clean accuracy", "robust": "robust accuracy"}


def bits(text: str, n: int) -> np.ndarray:
    """The n booleans, one for each image, that a record holds as text."""
    return unpack(text, n).numpy()


@dataclass(frozen=True)
class Differences:
    """One metric over the changes: its means, and its differences between changes with 95% intervals."""

    means: dict[str, float]  # by change, in percent
    spread: tuple[float, float, float]  # the largest difference of two changes and its interval, in points
    lowest: str
    highest: str
    from_original: dict[str, tuple[float, float, float]]  # by change, the difference and its interval, in points
    images: int
    seeds: int  # of the change with the fewest


def outcomes(study: dict, half: bool = False) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """By change, seed and metric, whether each test image is classified correctly; without failed trainings."""
    by_change: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for record in study["training"]:
        if record["half"] == half and "failed" not in record:
            by_metric = {metric: bits(text, record["n"]) for metric, text in record["outcomes"].items()}
            by_change.setdefault(record["change"], {})[record["seed"]] = by_metric
    return {change["name"]: by_change[change["name"]] for change in study["plan"]["changes"] if change["name"] in by_change}


def differences(by_change: dict[str, dict[int, dict[str, np.ndarray]]], metric: str) -> Differences | None:
    """The differences of a metric between changes; None if fewer than two changes have a training that did not fail."""
    if len(by_change) < 2:
        return None
    names = list(by_change)
    samples = [np.stack([seed[metric] for seed in by_change[name].values()]).astype(float) for name in names]  # seeds × images
    means = np.stack([sample.mean(0) for sample in samples])  # changes × images
    images = means.shape[1]
    random = np.random.default_rng(0)
    weights, random.bit_generator.state = _resampled(images)
    deviations = 100 * (weights @ means.T - means.mean(1))
    deviations += _errors_of_training(samples, random)
    centre = 100 * means.mean(1)
    first, second = np.triu_indices(len(names), 1)
    gaps, gap_deviations = centre[second] - centre[first], deviations[:, second] - deviations[:, first]
    errors = gap_deviations.std(0)
    scaled = np.abs(gap_deviations) / np.where(errors > 0, errors, np.inf)
    # If none of n images differs, the share that differs may still be up to 3 / n (the rule of three).
    widths = np.maximum(np.quantile(scaled.max(1), 0.95) * errors, 300 / images)
    low, high = np.abs(gaps) - widths, np.abs(gaps) + widths
    spread = (float(np.abs(gaps).max()), float(max(0.0, low.max())), float(min(100.0, high.max())))
    from_original = {}
    if ORIGINAL in names:
        base = names.index(ORIGINAL)
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            if base in (i, j):
                sign, other = (1, j) if i == base else (-1, i)
                value, width = float(sign * gaps[pair]), float(widths[pair])
                from_original[names[other]] = (value, value - width, value + width)
    seeds = min(len(sample) for sample in samples)
    by_name = dict(zip(names, centre.tolist(), strict=True))
    lowest, highest = names[int(centre.argmin())], names[int(centre.argmax())]
    return Differences(by_name, spread, lowest, highest, from_original, images, seeds)


@lru_cache(maxsize=2)
def _resampled(images: int) -> tuple[np.ndarray, dict]:
    """`DRAWS` samples of the images with replacement: each image's share of a sample, and the generator's state afterwards."""
    random = np.random.default_rng(0)
    return random.multinomial(images, np.full(images, 1 / images), DRAWS) / images, random.bit_generator.state


def _errors_of_training(samples: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Random errors of the means by the choice of seeds, in points: the pooled spread between seeds; 0 with one seed each."""
    freedom = sum(len(sample) - 1 for sample in samples)
    if not freedom:
        return np.zeros((DRAWS, len(samples)))
    pooled = np.sqrt(sum(((sample.mean(1) - sample.mean()) ** 2).sum() for sample in samples) / freedom)
    # A few seeds give a poor estimate of their spread, so the errors follow Student's t.
    student = np.sqrt(freedom / random.chisquare(freedom, (DRAWS, 1)))
    roots = np.sqrt([len(sample) for sample in samples])
    return 100 * pooled * student * random.standard_normal((DRAWS, len(samples))) / roots


def _interval(triple: tuple[float, float, float]) -> str:
    value, low, high = triple
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


@dataclass(frozen=True)
class Verdict:
    """`kind` is `sensitive`, `not sensitive` or `cannot tell`; `sentence` says it, and `remarks` explain it."""

    kind: str
    sentence: str
    remarks: list[str]


def judge(study: dict, margin: float = MARGIN) -> Verdict:
    """The verdict of a study: sensitive if the whole interval of the range of robust accuracy is above `margin` points."""
    by_change = outcomes(study)
    robust, clean = differences(by_change, "robust"), differences(by_change, "clean")
    failed = [record for record in study["training"] if "failed" in record and not record["half"]]
    lost = [change["name"] for change in study["plan"]["changes"] if change["name"] not in by_change]
    if robust is None or clean is None:
        successful = counted(len(by_change), "change has", "changes have") if by_change else "no change has"
        sentence = f"These data cannot tell: {successful} a training that succeeded, and at least 2 are needed{_remedy(study)}."
        return Verdict("cannot tell", sentence, _remarks_on_failures(failed))
    moves = f"robust accuracy moves by {_interval(robust.spread)} points over these changes, clean accuracy by "
    moves += f"{_interval(clean.spread)} points"
    _, low, high = robust.spread
    chance = 100 * guessing(study["plan"])
    if max(robust.means.values()) <= min(1.2 * chance, (100 + chance) / 2):
        why = f"under attack the networks are hardly better than guessing ({chance:.1f}%), so train them longer"
        kind = "cannot tell"
    elif robust.seeds < 2 and high >= margin:
        why = "one training for each change does not show how far trainings differ by chance, so give --seeds 2"
        kind = "cannot tell"
    elif low > margin:
        kind, why = "sensitive", ""
    elif high < margin and lost:
        why = f"all trainings on {listed(lost)} failed, and what a network cannot learn may differ most"
        kind = "cannot tell"
    elif high < margin:
        kind, why = "not sensitive", ""
    else:
        why = f"the interval contains {margin:g} points, and more test images or more --seeds would narrow it"
        kind = "cannot tell"
    not_counted = f"; not counted, since all its trainings failed: {', '.join(lost)}" if lost and not why else ""
    sentence = f"These data cannot tell: {moves}; {why}." if why else f"{kind.capitalize()}: {moves}{not_counted}."
    return Verdict(kind, sentence, [*_remarks(study, robust, clean, margin), *_remarks_on_failures(failed)])


def _remedy(study: dict) -> str:
    """Why the first training that failed did, and what may help; nothing where none failed."""
    reason = next((record["failed"] for record in study["training"] if "failed" in record), "")
    eps = in_pixel_units(study["plan"]["threat_model"]["eps"])
    help_note = f"; under ε = {eps} a training failed ({reason}): a smaller --eps, more images or more --steps may help"
    return help_note if reason else ""


def _remarks_on_failures(failed: list[dict]) -> list[str]:
    return [
        f"The training of {record['change']} with seed {record['seed']} failed and is not counted: {record['failed']}."
        for record in failed
    ]


def _remarks(study: dict, robust: Differences, clean: Differences, margin: float) -> list[str]:
    """How the verdict came about, then clean accuracy, the length of training, stronger attacks, hidden gradients, seeds."""
    low, high = robust.lowest, robust.highest
    sizes = f"{counted(robust.images, 'test image')} and {counted(robust.seeds, 'training')} for each change"
    remarks = [
        f"The brackets hold 95% intervals, from {sizes}. The data count as sensitive if the whole interval of robust accuracy "
        f"is above {margin:g} points.",
        f"Robust accuracy is lowest for {low} ({robust.means[low]:.1f}%) and highest for {high} ({robust.means[high]:.1f}%)."
        if low != high
        else f"Robust accuracy is {robust.means[low]:.1f}% for every change.",
    ]
    if robust.spread[1] > margin:
        lost = max(clean.means[high] - clean.means[low], 0.0)
        if lost > 0.5 * robust.spread[0]:
            rest = "most of the difference may be information that the change removes from the images"
        else:
            rest = f"the other {robust.spread[0] - lost:.1f} are lost under attack alone"
        remarks.append(f"Of these {robust.spread[0]:.1f} points, {lost:.1f} are lost on clean images too; {rest}.")
    if guessing(study["plan"]) > NEARLY_EQUAL / len(study["plan"]["classes"]):
        remarks.append(
            f"The classes differ in size: a network that always answers the largest class is right on "
            f"{guessing(study['plan']):.1%} of the test images. Compare the accuracies with this number."
        )
    halves = outcomes(study, half=True)
    wholes = {name: {0: seeds[0]} for name, seeds in outcomes(study).items() if 0 in seeds and name in halves}
    shorter, longer = (differences({name: each[name] for name in wholes}, "robust") for each in (halves, wholes))
    if shorter and longer:
        gain = max(longer.means[name] - shorter.means[name] for name in wholes)
        ranges = f"robust accuracy moves by {shorter.spread[0]:.1f} points after half of the training and by "
        ranges += f"{longer.spread[0]:.1f} after all of it (first seed)"
        remark = f"The training is long enough: {ranges}."
        if gain > 3.0 or abs(longer.spread[0] - shorter.spread[0]) > margin:
            remark = f"The training may be too short: {ranges}. Its second half raises robust accuracy by up to {gain:.1f} "
            remark += "points; --steps sets a longer training."
        remarks.append(remark)
    remarks += _remarks_on_attacks(study)
    if robust.seeds < 2:
        remarks.append("There is one training for each change: the intervals cover chance in the images, but not in training.")
    return remarks


def suites(study: dict) -> pd.DataFrame:
    """Robust accuracy, in percent, of the same images under the reported attack and the strongest attacks: a row per change."""
    rows = []
    for record in study["strong"]:
        if "failed" not in record:
            size = record["suite"]["n"]
            robust = bits(record["outcomes"]["reference"], record["n"])[:size]
            rows.append([record["change"], 100 * robust.mean(), 100 * bits(record["suite"]["held"], size).mean(), size])
    return pd.DataFrame(rows, columns=["change", "reference", "suite", "n"])


def _remarks_on_attacks(study: dict) -> list[str]:
    remarks, table = [], suites(study)
    if len(table) > 1:
        name = next(record["suite"]["name"] for record in study["strong"] if "failed" not in record)
        ranges = [table[column].max() - table[column].min() for column in ("reference", "suite")]
        falls = table["reference"] - table["suite"]
        remarks.append(
            f"Under {name}, robust accuracy moves by {ranges[1]:.1f} points; under the reported attack, on the same "
            f"{counted(table['n'].iloc[0], 'image')}, by {ranges[0]:.1f}. The stronger attack lowers it by at most "
            f"{max(falls.max(), 0.0):.1f} points."
        )
    failing = hidden(study)
    failing = failing[failing["verdict"] == "fails"]
    if len(failing):
        checks = "; ".join(f"{row.check} ({row.change})" for row in failing.itertuples())
        remarks.append(f"Gradients may be masked, and then robust accuracy is overstated. These checks fail: {checks}.")
    return remarks


def fallen(weaker: np.ndarray, stronger: np.ndarray) -> str:
    """`fails` if the stronger attack fools fewer images, beyond chance (an exact sign test at 5%), otherwise `holds`."""
    more, fewer = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    if more <= fewer:
        return "holds"
    return "holds" if binomtest(more, more + fewer, alternative="greater").pvalue > 0.05 else "fails"


def hidden(study: dict) -> pd.DataFrame:
    """Checks for masked gradients (Athalye et al., 2018): a row per `change` and `check`, with its `verdict` and `detail`."""
    rows = []
    for record in study["strong"]:
        if "failed" in record:
            continue
        robust = {name: bits(text, record["n"]) for name, text in record["outcomes"].items()}
        size = record["suite"]["n"]
        suite = bits(record["suite"]["held"], size)
        pairs = {
            "the attack fools at least as many images as a single step": (robust["one_step"], robust["reference"]),
            "100 steps fool at least as many images as the attack": (robust["reference"], robust["100_steps"]),
            "the strongest attacks fool at least as many images": (robust["reference"][:size], suite),
        }
        for check, (weaker, stronger) in pairs.items():
            detail = f"{100 * weaker.mean():.1f} → {100 * stronger.mean():.1f}"
            rows.append([record["change"], check, fallen(weaker, stronger), detail])
        curve = {float(eps): 100 * value for eps, value in record["curve"].items()}
        rise, moved = max(np.diff(list(curve.values())), default=0.0), 100 * robust["moved"].mean()
        for check, holds, detail in (
            ("robust accuracy never rises with ε", rise <= 1, f"largest rise {max(rise, 0.0):.1f}"),
            ("robust accuracy at ε = 1 is 0", curve[1.0] <= 1, f"{curve[1.0]:.1f}"),
            ("the attack changes every image", moved >= 99, f"{moved:.1f} of the images"),
        ):
            rows.append([record["change"], check, "holds" if holds else "fails", detail])
    return pd.DataFrame(rows, columns=["change", "check", "verdict", "detail"])


def explanations(study: dict) -> list[str]:
    """Whether perturbable volume and inter-class distance go along with robust accuracy, a sentence each."""
    means = differences(outcomes(study), "robust")
    if means is None:
        return []
    sentences = []
    measured = {record["change"]: record for record in study["measured"]}
    for key, name in (("log2_perturbable_volume", "perturbable volume"), ("inter_class_distance", "inter-class distance")):
        values = [(measured.get(change, {}).get(key), value) for change, value in means.means.items()]
        pairs = np.array([pair for pair in values if pair[0] is not None], float)
        if len(pairs) < 4 or (np.ptp(pairs, axis=0) == 0).any():
            sentences.append(
                f"Whether {name} explains the differences is open: an answer needs at least 4 changes with different values, "
                f"and there are {len(pairs)} changes."
            )
            continue
        test = spearmanr(*pairs.T)
        answer = "goes along with robust accuracy" if test.pvalue < 0.05 else "shows no clear relation to robust accuracy"
        sentences.append(
            f"The {name} {answer}: Spearman's rank correlation over {len(pairs)} changes is {test.statistic:+z.2f} "
            f"(p = {test.pvalue:.2f})."
        )
    return sentences


def numbers(study: dict) -> pd.DataFrame:
    """All numbers as a tidy table: columns `change`, `seed`, `length`, `metric`, `value` (percent for accuracies) and `n`."""
    rows = []
    for record in study["training"]:
        length = "half" if record["half"] else "whole"
        if "failed" in record:
            rows.append([record["change"], record["seed"], length, "failed", float("nan"), 0])
            continue
        for metric, text in record["outcomes"].items():
            value = 100 * bits(text, record["n"]).mean()
            rows.append([record["change"], record["seed"], length, f"{metric}_accuracy", value, record["n"]])
    for record in study["strong"]:
        if "failed" not in record:
            for eps, value in record["curve"].items():
                rows.append([record["change"], 0, "whole", f"robust_accuracy_eps_{eps}", 100 * value, record["n"]])
    for row in suites(study).itertuples():
        rows += [
            [row.change, 0, "whole", f"robust_accuracy_{name}", getattr(row, name), row.n] for name in ("reference", "suite")
        ]
    for record in study["measured"]:
        for metric in ("log2_perturbable_volume", "inter_class_distance"):
            if record[metric] is not None:
                rows.append([record["change"], None, None, metric, record[metric], record["n"]])
    for record in study["fixed"]:
        for metric, text in record.get("outcomes", {}).items():
            rows.append([record["change"], 0, "fixed", f"{metric}_accuracy", 100 * bits(text, record["n"]).mean(), record["n"]])
    table = pd.DataFrame(rows, columns=["change", "seed", "length", "metric", "value", "n"]).astype({"seed": "Int64"})
    # 100 × 0.771 is 77.10000000000001 in floating point.
    return table.assign(value=table["value"].map(lambda value: float(f"{value:.12g}")))
