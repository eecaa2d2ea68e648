"""Appendix B: settings, networks, and the certificates of Section 2.2."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import linspace

from lib import models
from lib.report.exhibit import Source, exhibit, published, runs
from lib.report.plot import STYLE
from lib.report.table import Column, Table
from lib.report.values import PALETTE, our_column, our_number, over_seeds, paper_values, transforms_of
from lib.report.words import budget_label, listed, to_compute, transform_label
from lib.run import cost
from lib.store import grid, plans

# The grid's name, and the reader's.
_WORDS = {
    "lenet5": "LeNet5", "wide_resnet28": "WRN-28", "small_convnet": "ConvNet", "adam": "Adam", "sgd": "SGD",
    "crop-flip": "padded by 4, cropped, flipped",
}  # fmt: skip


def settings_table(exhibit: str, training: str) -> Table:
    """Appendix B: how the exhibit's models of one kind of training are trained and evaluated, at each scale, from the grid.

    A row a setting, a column a scale. ValueError for an unknown exhibit, KeyError for a training that it has not.
    """
    by_scale = {}
    for scale in grid.SCALES:
        if scale in grid.exhibit(exhibit)["scales"]:
            runs = grid.runs(exhibit, scale)
            first = {run.training: run for run in reversed(runs)}[training]
            by_scale[scale] = {**_described(first, exhibit), "seeds": str(len({run.seed for run in runs}))}
    settings = list(dict.fromkeys(name for described in by_scale.values() for name in described))
    rows = [(name, *(described.get(name) for described in by_scale.values())) for name in settings]
    return Table([Column("setting"), *map(Column, by_scale)], rows)


def _described(run: grid.Run, exhibit: str) -> dict[str, str]:
    """A run's settings in words, by what they set; of its evaluations those that the exhibit shows."""
    plan = plans.of(run)
    resolved = plan.settings
    training = resolved["training"]
    epochs = training["steps"] * training["batch_size"] / run.train_size
    described = {
        "data set": resolved["data"]["source"],
        "network": f"{_WORDS[run.model]}, w={run.widen_factor:g}",
        "training images": f"{run.train_size:,}",
        "steps": f"{training['steps']:,} ({epochs:.3g} epochs)",
        "batch size": str(training["batch_size"]),
        "optimizer": _WORDS[training["optimizer"]] + (f", momentum {training['momentum']:g}" if "momentum" in training else ""),
        "learning rate": _schedule(training["lr"], training["schedule"]),
        "weight decay": f"{training['weight_decay']:g}",
        "augmentation": _WORDS.get(training["augment"], training["augment"]),
    }
    if "attack" in resolved:
        attack = resolved["attack"]
        described["attack in training"] = f"{_attack(attack)}, {attack['precision']}"
        described["growth of its budget"] = _growth("0", attack)
    if "certificate" in resolved:
        certificate = resolved["certificate"]
        described["budget in training"] = f"ε={budget_label(certificate['eps'])}, {_box(certificate['bounds'])}"
        described["growth of this budget"] = _growth(budget_label(certificate["first_eps"]), certificate)
        described["bounds in training"] = (
            "exact" if certificate["proj"] is None else f"{certificate['proj']} random projections"
        )
    for name in plan.evaluations(exhibit):
        described[f"evaluation `{name}`"] = _evaluation(plan.evaluation(name).settings)
    return described


def _evaluation(resolved: dict) -> str:
    parts = [_attack(resolved["threat_model"]) if "threat_model" in resolved else "no attack"]
    if "certificate" in resolved:
        parts.append("exact bounds")
    if "ramp" in resolved:
        parts += [f"ramp of slope {resolved['ramp']['slope']:g}", f"Square with {resolved['ramp']['queries']:,} queries"]
    return "; ".join([*parts, f"{resolved['sizes']['test']:,} test and {resolved['sizes']['train']:,} training images"])


def _schedule(lr: float, schedule: str | dict) -> str:
    if isinstance(schedule, dict):
        return "; ".join([f"{lr:g}", *(f"{rate:g} from step {int(step):,}" for step, rate in schedule.items())])
    return f"{lr:g}, constant" if schedule == "constant" else f"{schedule}, up to {lr:g}"


def _attack(attack: dict) -> str:
    start = "random start" if attack["random_start"] else "no random start"
    steps = f"{attack['num_steps']} steps of {budget_label(attack['step_size'])}"
    return f"ε={budget_label(attack['eps'])}, {steps}, {start}, {_box(attack['bounds'])}"


def _box(bounds: Sequence[float] | None) -> str:
    return "no box" if bounds is None else f"within [{bounds[0]:g}, {bounds[1]:g}]"


def _growth(first: str, settings: dict) -> str:
    return f"from {first} over the first {settings['warmup']:.0%} of the steps" if settings["warmup"] else "none"


def network_table(networks: Sequence[tuple[str, float]]) -> Table:
    """The layers of networks on images of MNIST, each (name, widen factor) and a sequence of layers: outputs and parameters."""
    rows = []
    for name, widen_factor in networks:
        label = f"{_WORDS[name]}, w={widen_factor:g}"
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = models.build(name, widen_factor).eval()
            x = torch.zeros(1, *cost.image_shape(name))
            for layer in model:
                x = layer(x)
                rows.append((label, _layer(layer), " × ".join(map(str, x.shape[1:])), _count(layer) or None))
        rows.append((label, "all layers", "", _count(model)))
    return Table([Column("network"), Column("layer"), Column("output", left=False), Column("parameters", ",")], rows)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layer(layer: torch.nn.Module) -> str:
    if isinstance(layer, torch.nn.Conv2d):
        return (
            f"convolution {layer.kernel_size[0]}×{layer.kernel_size[1]}, stride {layer.stride[0]}, padding {layer.padding[0]}"
        )
    if isinstance(layer, torch.nn.MaxPool2d):
        return f"max-pooling {layer.kernel_size}×{layer.kernel_size}"
    return {torch.nn.Linear: "fully connected", torch.nn.ReLU: "ReLU", torch.nn.Flatten: "flattened"}[type(layer)]


def certified_table(ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Section 2.2: the LP-robust model, in percent on test images; the paper's numbers beside ours, Δ ours minus the paper's.

    One row a variant. The robust error lies between PGD error and certified error. "–" marks what the paper does not give, or
    what is not computed.
    """
    quantities = {
        "clean accuracy": ("clean_accuracy", True),
        "certified error": ("certified_error", True),
        "certified error, no box": ("certified_error_unboxed", False),
        "PGD error": ("robust_accuracy", False),
    }
    columns = [Column("variant")]
    for heading, (_, is_printed) in quantities.items():
        columns += [Column(f"{heading}: paper", ".2f")] if is_printed else []
        columns.append(our_column(f"{heading}: ours", delta=is_printed))
    paper = paper[paper["dataset"] == grid.exhibit(ours.attrs["exhibit"])["dataset"]]
    rows = []
    for transform in transforms_of(ours, paper):
        row = [transform_label(transform)]
        for metric, is_printed in quantities.values():
            theirs = paper_values(paper, "lp", metric).get(transform, np.nan)
            row += [theirs] if is_printed else []
            row.append(our_number(_as_errors(ours, "lp", metric), transform, theirs))
        rows.append(row)
    return Table(columns, rows)


def _as_errors(ours: pd.DataFrame, training: str, metric: str) -> pd.DataFrame:
    """What `over_seeds` gives; of a robust accuracy the error."""
    accuracies = over_seeds(ours, training, metric)
    return _complement(accuracies) if metric.startswith("robust_accuracy") else accuracies


def _complement(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Errors from accuracies: the frame of `over_seeds` with each value subtracted from 100."""
    values = accuracies["values"].map(lambda values: [100 - value for value in values])
    return accuracies.assign(
        values=values, mean=100 - accuracies["mean"], low=100 - accuracies["high"], high=100 - accuracies["low"]
    )


def certified_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """The two bounds of each robust error, and how far the two variants of Section 2.2 differ."""
    errors = {metric: _as_errors(ours, "lp", metric)["mean"].dropna() for metric in ("certified_error", "robust_accuracy")}
    certified, attacked = errors.values()
    if not {"binarize", "original"} <= {*certified.index} & {*attacked.index}:
        return f"Not computed yet: both variants are needed; {to_compute(ours)}"
    theirs = paper_values(paper, "lp", "certified_error")
    ours_apart, theirs_apart = (values["original"] - values["binarize"] for values in (certified, theirs))
    sides = listed(
        f"between {attacked[name]:.1f}% (PGD) and **{certified[name]:.1f}%** (certified) on {transform_label(name)} images"
        for name in ("binarize", "original")
    )
    unknown = certified - attacked
    return (
        f"At scale {ours.attrs['scale']} the robust error is {sides}. The two certified errors differ by **{ours_apart:.1f} "
        f"points**, the paper's by {theirs_apart:.1f}. The gap between PGD error and certified error is "
        f"{unknown['binarize']:.1f} points on binarized and {unknown['original']:.1f} on original images: PGD has not found "
        f"these errors, and the bound does not exclude them."
    )


# From the metric of an exact certificate to its heading.
_RAMP = {
    "robust_accuracy_bare_pgd": "no ramp: PGD",
    "robust_accuracy_bare_square": "no ramp: Square",
    "clean_accuracy_ramp": "ramp: clean",
    "robust_accuracy_ramp_pgd": "ramp: PGD",
    "robust_accuracy_ramp_bpda": "ramp: BPDA",
    "robust_accuracy_ramp_square": "ramp: Square",
    "certified_error_ramp": "ramp: certified",
}


def _ramp_errors(ours: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every error with a ramp and without, by metric, as `over_seeds` gives it."""
    errors = {metric: _as_errors(ours, "standard", metric) for metric in _RAMP}
    return {**errors, "clean_accuracy_ramp": _complement(errors["clean_accuracy_ramp"])}


def ramp_table(ours: pd.DataFrame) -> Table:
    """The exact certificate: errors in percent on test images, of a standardly trained classifier without a ramp and with one.

    One row a variant. The last column is the share of images of which PGD's first step changes a pixel.
    """
    errors = _ramp_errors(ours)
    moved = over_seeds(ours, "standard", "moved_by_pgd_ramp")
    columns = [Column("variant"), *(Column(heading, ".2f") for heading in _RAMP.values()), Column("moved by PGD", ".1f")]
    rows = [
        (transform_label(name), *(our_number(errors[metric], name) for metric in _RAMP), our_number(moved, name))
        for name in transforms_of(ours)
    ]
    return Table(columns, rows)


def ramp_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """The results of the exact certificate in a few sentences, beside the paper's LP certificate."""
    errors = {metric: estimates["mean"].dropna() for metric, estimates in _ramp_errors(ours).items()}
    if not all({"binarize", "original"} <= set(values.index) for values in errors.values()):
        return f"Not computed yet: both variants are needed; {to_compute(ours)}"
    binary, original = ({_RAMP[metric]: means[name] for metric, means in errors.items()} for name in ("binarize", "original"))
    theirs = paper_values(paper, "lp", "certified_error")["binarize"]
    return (
        f"Binarized images, scale {ours.attrs['scale']}: with the ramp, a classifier trained without any attack has a "
        f"certified error of **{binary['ramp: certified']:.2f}%** and a clean error of {binary['ramp: clean']:.2f}%. The "
        f"paper's LP certificate, of another network, gives {theirs:.2f}%. Without the ramp, PGD finds "
        f"{binary['no ramp: PGD']:.1f}% error on the same weights and Square {binary['no ramp: Square']:.1f}%, so both attacks "
        f"work. Original images: with the ramp, {original['ramp: certified']:.1f}% of the images have no certificate. "
        f"PGD finds {original['ramp: PGD']:.1f}% error, BPDA **{original['ramp: BPDA']:.1f}%** and Square "
        f"**{original['ramp: Square']:.1f}%**: the ramp hides the gradient, and this stops only the attack that needs it."
    )


def ramp_figure(settings: Mapping) -> Figure:
    """The ramp of the exact certificate, drawn by the layer itself, and how far a budget moves pixels of 0 and 1.

    `settings`: those of the evaluation `ramp`.
    """
    eps, slope = settings["threat_model"]["eps"], settings["ramp"]["slope"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        ax = figure.subplots()
        for place, colour in ((0, PALETTE[0]), (1, PALETTE[3])):
            ax.axvspan(
                place - eps, place + eps, color=colour, alpha=0.25, label=f"a pixel of {place}, perturbed by up to {eps:g}"
            )
        x = linspace(-0.5, 1.5, 801).view(1, 1, 1, -1)
        ax.plot(x.flatten(), models.Ramp(slope)(x).flatten(), color="black", linewidth=1.6, label=f"the ramp, slope {slope:g}")
        ax.set(xlabel="pixel value", ylabel="what the classifier sees", xlim=(-0.5, 1.5), yticks=[0, 0.5, 1])
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return figure


_RAMP_SETTINGS = Source(
    lambda page: plans.of(grid.runs("exact-certificate", "paper")[0]).evaluation("ramp").settings,
    ("exact-certificate",),
    has_badge=False,
)
exhibit("networks", network_table, [("lenet5", 1.0), ("small_convnet", 1.0)])
exhibit("settings-mnist", settings_table, "table-2", "pgd")
exhibit("settings-cifar10", settings_table, "table-3", "pgd")
exhibit("settings-lp", settings_table, "section-2.2", "lp")
exhibit("section-2.2", certified_table, runs("section-2.2"), published("section-2.2"))
exhibit("section-2.2-seen", certified_summary, runs("section-2.2"), published("section-2.2"))
exhibit("section-2.2-cifar10", certified_table, runs("section-2.2-cifar10"), published("section-2.2"))
exhibit("ramp", ramp_figure, _RAMP_SETTINGS)
exhibit("exact-certificate", ramp_table, runs("exact-certificate"))
exhibit("exact-certificate-seen", ramp_summary, runs("exact-certificate"), published("section-2.2"))
