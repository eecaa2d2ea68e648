"""Judges a study by its records: accuracies and their differences with intervals, and a verdict in one sentence.

The intervals hold for all pairs of changes together, so that the largest difference of many is not taken for more than it is:
images are drawn anew (the same ones for every change), each training's chance is added as its seeds show it, and the widest
deviation of any pair, in its own standard errors, sets the width of all.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from lib.sensitivity.changes import ORIGINAL
from lib.store.records import unpack

MARGIN = 5.0  # points; a range that is surely larger is a sensitivity
DRAWS = 2000
METRICS = {"clean": "clean accuracy", "robust": "robust accuracy"}


def bits(text: str, n: int) -> np.ndarray:
    """The booleans of n images, as a record has them."""
    return unpack(text, n).numpy()


@dataclass(frozen=True)
class Differences:
    """Of one metric, in points: how far the changes lie apart, and each from the original, with 95% intervals."""

    means: dict[str, float]  # by change, in percent
    spread: tuple[float, float, float]  # the largest difference of two changes, and its interval
    lowest: str
    highest: str
    from_original: dict[str, tuple[float, float, float]]
    images: int
    seeds: int  # the fewest of a change


def outcomes(study: dict, half: bool = False) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """By change, seed and metric, whether each test image was right; of trainings that did not fail."""
    found: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for record in study["training"]:
        if record["half"] == half and "failed" not in record:
            named = {metric: bits(text, record["n"]) for metric, text in record["outcomes"].items()}
            found.setdefault(record["change"], {})[record["seed"]] = named
    return {change["name"]: found[change["name"]] for change in study["plan"]["changes"] if change["name"] in found}


def differences(found: dict[str, dict[int, dict[str, np.ndarray]]], metric: str) -> Differences | None:
    """The differences of a metric between changes; None where fewer than two changes have a training that did not fail."""
    if len(found) < 2:
        return None
    names = list(found)
    each = [np.stack([seed[metric] for seed in found[name].values()]).astype(float) for name in names]
    means = np.stack([one.mean(0) for one in each])  # changes × images
    images = means.shape[1]
    random = np.random.default_rng(0)
    weights, random.bit_generator.state = _drawn(images)
    deviations = 100 * (weights @ means.T - means.mean(1))
    deviations += _chance_of_training(each, random)
    centre = 100 * means.mean(1)
    first, second = np.triu_indices(len(names), 1)
    apart, moved = centre[second] - centre[first], deviations[:, second] - deviations[:, first]
    errors = moved.std(0)
    scaled = np.abs(moved) / np.where(errors > 0, errors, np.inf)
    # Where no image differs, up to three in n may still do so (the rule of three).
    widths = np.maximum(np.quantile(scaled.max(1), 0.95) * errors, 300 / images)
    low, high = np.abs(apart) - widths, np.abs(apart) + widths
    spread = (float(np.abs(apart).max()), float(max(0.0, low.max())), float(min(100.0, high.max())))
    beside = {}
    if ORIGINAL in names:
        base = names.index(ORIGINAL)
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            if base in (i, j):
                sign, other = (1, j) if i == base else (-1, i)
                value, width = float(sign * apart[pair]), float(widths[pair])
                beside[names[other]] = (value, value - width, value + width)
    seeds = min(len(one) for one in each)
    shares = dict(zip(names, centre.tolist(), strict=True))
    return Differences(shares, spread, names[int(centre.argmin())], names[int(centre.argmax())], beside, images, seeds)


@lru_cache(maxsize=2)
def _drawn(images: int) -> tuple[np.ndarray, dict]:
    """Images drawn anew, `DRAWS` times: each image's share of a draw, and the state of the generator after that."""
    random = np.random.default_rng(0)
    return random.multinomial(images, np.full(images, 1 / images), DRAWS) / images, random.bit_generator.state


def _chance_of_training(each: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Draws of what another training would change, in points: the seeds' spread, pooled; 0 where all have one seed."""
    free = sum(len(one) - 1 for one in each)
    if not free:
        return np.zeros((DRAWS, len(each)))
    pooled = np.sqrt(sum(((one.mean(1) - one.mean()) ** 2).sum() for one in each) / free)
    unsure = np.sqrt(free / random.chisquare(free, (DRAWS, 1)))  # so few seeds tell their own spread badly: Student's t
    counts = np.sqrt([len(one) for one in each])
    return 100 * pooled * unsure * random.standard_normal((DRAWS, len(each))) / counts


def _interval(triple: tuple[float, float, float]) -> str:
    value, low, high = triple
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


@dataclass(frozen=True)
class Verdict:
    """`kind`: `sensitive`, `not sensitive` or `cannot tell`; the sentence that says so, and what to bear in mind."""

    kind: str
    sentence: str
    remarks: list[str]


def judge(study: dict, margin: float = MARGIN) -> Verdict:
    """The verdict of a study. A range of robust accuracy that is surely above `margin` points is a sensitivity."""
    found = outcomes(study)
    robust, clean = differences(found, "robust"), differences(found, "clean")
    failed = [record for record in study["training"] if "failed" in record and not record["half"]]
    if robust is None or clean is None:
        sentence = f"The data at hand cannot tell: {len(found)} changes have a training that did not fail, 2 are needed."
        return Verdict("cannot tell", sentence, _remarks_on_failures(failed))
    cleanly = f"clean accuracy by {_interval(clean.spread)}"
    moves = f"robust accuracy moves by {_interval(robust.spread)} points over these changes, {cleanly}"
    counted = f"{robust.images} test images, {robust.seeds} training{'s' * (robust.seeds > 1)} a change"
    _, low, high = robust.spread
    chance = 100 / len(study["plan"]["classes"])
    if max(robust.means.values()) <= 1.2 * chance:
        why = f"the networks are hardly more robust than guessing ({chance:.1f}%): they need longer training"
        kind = "cannot tell"
    elif robust.seeds < 2 and high >= margin:
        kind, why = "cannot tell", "with one training a change nothing tells how far trainings differ by chance; give --seeds 2"
    elif low > margin:
        kind, why = "sensitive", ""
    elif high < margin:
        kind, why = "not sensitive", ""
    else:
        kind, why = "cannot tell", f"neither more nor less than {margin:g} points can be shown; more test images or seeds would"
    if kind == "cannot tell":
        sentence = f"The data at hand cannot tell: {moves} ({counted}); {why}."
    else:
        sentence = f"{moves[0].upper()}{moves[1:]}: {kind}. ({counted}; the margin is {margin:g} points.)"
    return Verdict(kind, sentence, [*_remarks(study, robust, clean, margin), *_remarks_on_failures(failed)])


def _remarks_on_failures(failed: list[dict]) -> list[str]:
    return [
        f"A training of {record['change']} (seed {record['seed']}) failed and is not counted: {record['failed']}."
        for record in failed
    ]


def _remarks(study: dict, robust: Differences, clean: Differences, margin: float) -> list[str]:
    """What bears on the verdict: clean accuracy, the length of training, stronger attacks, hidden gradients, seeds."""
    low, high = robust.lowest, robust.highest
    beside = clean.means[high] - clean.means[low]
    remarks = [f"Least robust: {low} ({robust.means[low]:.1f}%); most robust: {high} ({robust.means[high]:.1f}%)."]
    if robust.spread[1] > margin:
        removed = beside > 0.5 * robust.spread[0]
        mostly = "much of the range is what the change removes from the images" if removed else "the rest is robustness"
        remarks.append(
            f"Of these {robust.spread[0]:.1f} points {max(beside, 0.0):.1f} are lost on clean images already: {mostly}."
        )
    halves = outcomes(study, half=True)
    whole = {name: {0: seeds[0]} for name, seeds in outcomes(study).items() if 0 in seeds and name in halves}
    shorter, longer = (differences({name: each[name] for name in whole}, "robust") for each in (halves, whole))
    if shorter and longer:
        gained = max(longer.means[name] - shorter.means[name] for name in whole)
        ranges = f"{shorter.spread[0]:.1f} points at half the length, {longer.spread[0]:.1f} at the whole"
        remark = f"Training was long enough to tell: robust accuracy ranges over {ranges} (first seed)."
        if gained > 3.0 or abs(longer.spread[0] - shorter.spread[0]) > margin:
            remark = f"Training may have been too short: robust accuracy ranges over {ranges}; the second half adds up to "
            remark += f"{gained:.1f} points (first seed)."
        remarks.append(remark)
    remarks += _remarks_on_attacks(study)
    if robust.seeds < 2:
        remarks.append("One training a change: the intervals cover chance in the images, not in training.")
    return remarks


def suites(study: dict) -> pd.DataFrame:
    """Robust accuracy in percent of the same images under the reported attack and the strongest ones: one row a change."""
    rows = []
    for record in study["strong"]:
        if "failed" not in record:
            size = record["suite"]["n"]
            held = bits(record["outcomes"]["reference"], record["n"])[:size]
            rows.append([record["change"], 100 * held.mean(), 100 * bits(record["suite"]["held"], size).mean(), size])
    return pd.DataFrame(rows, columns=["change", "reference", "suite", "n"])


def _remarks_on_attacks(study: dict) -> list[str]:
    remarks, table = [], suites(study)
    if len(table) > 1:
        name = next(record["suite"]["name"] for record in study["strong"] if "failed" not in record)
        ranges = [table[column].max() - table[column].min() for column in ("reference", "suite")]
        off = table["reference"] - table["suite"]
        remarks.append(
            f"Under {name}, on {table['n'].iloc[0]} images, robust accuracy ranges over {ranges[1]:.1f} points; under the "
            f"reported attack, on the same images, over {ranges[0]:.1f}. The stronger attack lowers robust accuracy by "
            f"at most {max(off.max(), 0.0):.1f} points."
        )
    failing = hidden(study)
    failing = failing[failing["verdict"] == "fails"]
    if len(failing):
        listed = "; ".join(f"{row.check} ({row.change})" for row in failing.itertuples())
        remarks.append(f"A gradient may be hidden, so that robust accuracy is overstated: fails: {listed}.")
    return remarks


def fallen(weaker: np.ndarray, stronger: np.ndarray) -> str:
    """Whether an attack that should be the stronger one leaves no more images, beyond chance (an exact sign test at 5%)."""
    more, fewer = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    if more <= fewer:
        return "holds"
    return "holds" if binomtest(more, more + fewer, alternative="greater").pvalue > 0.05 else "fails"


def hidden(study: dict) -> pd.DataFrame:
    """Checks for a hidden gradient (Athalye et al., 2018): one row a `change` and `check`, its `verdict` and `detail`."""
    rows = []
    for record in study["strong"]:
        if "failed" in record:
            continue
        held = {name: bits(text, record["n"]) for name, text in record["outcomes"].items()}
        size = record["suite"]["n"]
        pairs = {
            "many steps do no less than one": (held["one_step"], held["reference"]),
            "100 steps do no less than the reported attack": (held["reference"], held["100_steps"]),
            "the strongest attacks do no less": (held["reference"][:size], bits(record["suite"]["held"], size)),
        }
        for check, (weaker, stronger) in pairs.items():
            detail = f"{100 * weaker.mean():.1f} → {100 * stronger.mean():.1f}"
            rows.append([record["change"], check, fallen(weaker, stronger), detail])
        curve = {float(eps): 100 * value for eps, value in record["curve"].items()}
        rise, moved = max(np.diff(list(curve.values())), default=0.0), 100 * held["moved"].mean()
        for check, holds, detail in (
            ("a larger ε leaves no more images", rise <= 1, f"{rise:+z.1f} at most"),
            ("at ε = 1 nothing is left", curve[1.0] <= 1, f"{curve[1.0]:.1f}"),
            ("the attack moves every image", moved >= 99, f"{moved:.1f}%"),
        ):
            rows.append([record["change"], check, "holds" if holds else "fails", detail])
    return pd.DataFrame(rows, columns=["change", "check", "verdict", "detail"])


def explanations(study: dict) -> list[str]:
    """Whether perturbable volume or inter-class distance goes along with robust accuracy, a sentence each."""
    means = differences(outcomes(study), "robust")
    if means is None:
        return []
    said = []
    measured = {record["change"]: record for record in study["measured"]}
    for key, name in (("log2_perturbable_volume", "perturbable volume"), ("inter_class_distance", "inter-class distance")):
        values = [(measured.get(change, {}).get(key), value) for change, value in means.means.items()]
        pairs = np.array([pair for pair in values if pair[0] is not None], float)
        if len(pairs) < 4 or (np.ptp(pairs, axis=0) == 0).any():
            said.append(
                f"Whether {name} explains it cannot be told: at least 4 changes that differ are needed, {len(pairs)} are there."
            )
            continue
        found = spearmanr(*pairs.T)
        strength = "explains much of it" if found.pvalue < 0.05 else "does not explain it, as far as so few changes tell"
        said.append(
            f"The {name} {strength}: its rank correlation with robust accuracy is {found.statistic:+z.2f} over "
            f"{len(pairs)} changes (p = {found.pvalue:.2f})."
        )
    return said


def numbers(study: dict) -> pd.DataFrame:
    """All numbers, tidy: columns `change`, `seed`, `length`, `metric`, `value` (percent for accuracies) and `n`."""
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
    return pd.DataFrame(rows, columns=["change", "seed", "length", "metric", "value", "n"])
