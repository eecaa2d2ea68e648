"""Writes the report of a study from its records: one HTML file that the user can mail, and the numbers as CSV."""

import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from lib.report.table import as_csv
from lib.report.words import counted
from lib.sensitivity import verdict
from lib.sensitivity.changes import Change, ChangeError, descriptions, parse
from lib.sensitivity.folder import Folder
from lib.sensitivity.pictures import one_a_class, png
from lib.sensitivity.plan import in_pixel_units
from lib.sensitivity.study import write_text
from lib.store.intervals import Estimate

_COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9", "#949494", "#5a4a9c", "#222222")
_STYLE = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "text.parse_math": False, "svg.hashsalt": "sensitivity",
}  # fmt: skip


CAPTIONS = {
    "accuracies": "Accuracy on the test images after training on each change: clean, and robust, under the reported attack of "
    "the settings. Bars: means over the seeds; dots: the seeds.",
    "settings": "The settings, and the options that set them.",
    "table": "Each change: accuracies, differences with 95% intervals, perturbable volume and inter-class distance "
    "(ℓ2, of each class's nearest tenth of images to the nearest tenth of the other classes' images; mean over classes).",
    "hidden": "Checks for masked gradients (first seed). The brackets hold percentages of the images, most of them robust "
    "accuracies; an arrow leads from the weaker attack to the stronger.",
    "fixed": "One network, trained on unchanged images, with each change in front of it.",
}
# The figures in words, for readers who do not see them.
WORDS = {
    "accuracies": "Bars of clean and robust accuracy for each change; the table below has the numbers.",
    "curve": "Line chart of robust accuracy over ε, one line per change; numbers.csv has the numbers.",
}


def curve_caption(study: dict) -> str:
    """What the curve of robust accuracy shows, and on how many images."""
    images = counted(study["plan"]["strong"]["images"], "test image")
    return f"Robust accuracy on {images}, of the first seed's networks. Every network is trained with one ε."


def suite_caption(study: dict) -> str:
    """What the table of the strongest attacks shows: the attacks and how many images."""
    names = [record["suite"]["name"] for record in study["strong"] if "failed" not in record]
    images = counted(study["plan"]["strong"]["suite_images"], "test image")
    strongest = names[0] if names else "not computed"
    return f"Robust accuracy on the same {images} (first seed). The strongest attacks are {strongest}."


def _short(name: str) -> str:
    """A change's name for a figure: at most 28 characters, the last ones of a longer name."""
    return name if len(name) <= 28 else f"…{name[-27:]}"


def accuracy_figure(study: dict) -> Figure:
    """Clean and robust accuracy of each change: the mean over seeds as a bar, each seed as a dot."""
    by_change = verdict.outcomes(study)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.5 * len(by_change)), layout="constrained")
        axes = figure.subplots()
        for row, (metric, label) in enumerate(verdict.METRICS.items()):
            by_seed = [[100 * seed[metric].mean() for seed in seeds.values()] for seeds in by_change.values()]
            heights = np.arange(len(by_change)) + 0.4 * row - 0.2
            axes.barh(heights, [np.mean(values) for values in by_seed], 0.36, color=_COLOURS[row], alpha=0.75, label=label)
            for height, values in zip(heights, by_seed, strict=True):
                axes.plot(values, [height] * len(values), "o", color="black", markersize=3)
        axes.set_yticks(np.arange(len(by_change)), [_short(name) for name in by_change])
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="accuracy, % of test images (dots: single trainings)")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def curve_figure(study: dict) -> Figure:
    """Robust accuracy against ε, one line a change, and the ε of training as a dashed line."""
    eps = study["plan"]["threat_model"]["eps"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        records = [record for record in study["strong"] if "failed" not in record]
        for i, record in enumerate(records):
            points = [(float(at), 100 * value) for at, value in record["curve"].items() if float(at) <= 2 * eps + 1e-9]
            style = ("-", "--", ":")[i // len(_COLOURS) % 3]
            colour, label = _COLOURS[i % len(_COLOURS)], _short(record["change"])
            axes.plot(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3, label=label)
        axes.axvline(eps, color="grey", linestyle="--", linewidth=1)
        axes.set(ylim=(0, 100), xlabel="ε, for pixels in [0, 1] (dashed line: the ε of training)", ylabel="robust accuracy, %")
        if records:
            figure.legend(loc="outside right upper", frameon=False)
    return figure


def inlined(figure: Figure) -> str:
    """The figure as an SVG in a data URL, for an <img> of a page."""
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def table(study: dict) -> pd.DataFrame:
    """A row of texts per change: accuracies, their differences from the original, half the training; volume and distance."""
    by_change, halves = verdict.outcomes(study), verdict.outcomes(study, half=True)
    differences = {metric: verdict.differences(by_change, metric) for metric in verdict.METRICS}
    measured = {record["change"]: record for record in study["measured"]}
    rows = []
    for change in study["plan"]["changes"]:
        name = change["name"]
        row = {"change": name}
        for metric, label in verdict.METRICS.items():
            values = [100 * seed[metric].mean() for seed in by_change.get(name, {}).values()]
            row[f"{label}, %"] = f"{np.mean(values):.1f}" if values else "failed"
            row[f"{metric}: single trainings, %"] = ", ".join(f"{value:.1f}" for value in values) or "–"
            difference = differences[metric].from_original.get(name) if differences[metric] else None
            row[f"{metric}: difference from original, points"] = str(Estimate(*difference)) if difference else "–"
        half = halves.get(name, {}).get(0)
        row["robust after half the training, %"] = f"{100 * half['robust'].mean():.1f}" if half else "–"
        record = measured.get(name, {})
        row["log₂ of perturbable volume"] = f"{record['log2_perturbable_volume']:.1f}" if record else "–"
        distance = record.get("inter_class_distance")
        row["inter-class distance (ℓ2)"] = f"{distance:.2f}" if distance is not None else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def suite_table(study: dict) -> pd.DataFrame:
    """A row of texts per change: robust accuracy of the same images under the reported attack and under the strongest."""
    rows = verdict.suites(study)
    columns = {"reported attack, %": rows["reference"], "strongest attacks, %": rows["suite"]}
    return pd.DataFrame({"change": rows["change"], **{name: values.map("{:.1f}".format) for name, values in columns.items()}})


def hidden_table(study: dict) -> pd.DataFrame:
    """The checks for masked gradients: a row of texts per change, a column per check."""
    checks = verdict.hidden(study)
    checks["cell"] = checks["verdict"] + " (" + checks["detail"] + ")"
    wide = checks.pivot(index="change", columns="check", values="cell")
    wide = wide.loc[list(dict.fromkeys(checks["change"])), list(dict.fromkeys(checks["check"]))]
    return wide.reset_index().rename_axis(columns=None)


def fixed_table(study: dict) -> pd.DataFrame:
    """A row of texts per change: the network trained on unchanged images, with the change in front of it."""
    rows = []
    for record in study["fixed"]:
        shares = {metric: verdict.bits(text, record["n"]).mean() for metric, text in record.get("outcomes", {}).items()}
        texts = {f"{label}, %": f"{100 * shares[m]:.1f}" if m in shares else "failed" for m, label in verdict.METRICS.items()}
        rows.append({"change": record["change"], **texts})
    return pd.DataFrame(rows)


def settings(plan: dict) -> pd.DataFrame:
    """The settings of the study, and the options that set them: columns `setting`, `value` and `option`."""
    training, attack, threat = plan["training"], plan["attack"], plan["threat_model"]
    model, optimizer = plan["model"], {"adam": "Adam", "sgd": "SGD"}.get(training["optimizer"], training["optimizer"])
    width = f", widen factor {model['widen_factor']:g}" if "widen_factor" in model else ""
    side, colour = plan["image"]["image_size"], "grey" if plan["image"]["in_channels"] == 1 else "colour"
    batches = f"{training['steps']}, each of {training['batch_size']} images ({plan['epochs']:g} passes over the images)"
    pgd = {
        name: f"PGD, {counted(used['num_steps'], 'step')} of size {in_pixel_units(used['step_size'])}, random start"
        for name, used in (("training", attack), ("reported", threat))
    }
    expected = f"about {plan['expected_seconds'] / 60:.1f} minutes expected, {counted(plan['jobs'], 'training')} at a time"
    no_limit = plan["options"].get("steps")
    limit = "no limit, since --steps is given" if no_limit else f"at most {plan['minutes']:g} minutes"
    rows = [
        ("network", f"{model['name']}{width} ({model['reason']})", "--model"),
        ("ε, the largest change of a pixel in [0, 1]", f"{in_pixel_units(threat['eps'])} ({plan['eps_reason']})", "--eps"),
        ("steps per training", batches, "--minutes, --steps, --batch-size"),
        ("optimiser", f"{optimizer}, largest learning rate {training['lr']:g}, {training['schedule']} schedule", "--lr"),
        ("attack in training", f"{pgd['training']}; ε grows from 0 during the first {attack['warmup']:.0%} of the steps", ""),
        ("reported attack", f"{pgd['reported']}, on {counted(plan['test_size'], 'test image')}", "--attack-steps"),
        ("trainings per change", f"{plan['seeds']}, and one of half the steps", "--seeds"),
        ("images", f"{side}×{side} pixels, {colour}", "--size, --colour"),
        ("time", f"{limit}; {expected}", "--jobs" if no_limit else "--minutes, --jobs"),
        ("machine", f"{plan['device']} for each training", ""),
        ("software", f"commit {plan['commit']}; " + ", ".join(map(" ".join, plan["versions"].items())), ""),
    ]
    return pd.DataFrame(rows, columns=["setting", "value", "option"])


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("lib.sensitivity", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def part(name: str, *arguments: object) -> str:
    """A part of the report as HTML: `name` and arguments of a macro of `parts.html.jinja`, which escapes them."""
    return str(getattr(_environment().get_template("parts.html.jinja").module, name)(*arguments))


def what_changes_do(study: dict) -> dict[str, str]:
    """What each change of the study does, in words, by its name."""
    return {change["name"]: change["does"] for change in study["plan"]["changes"]}


def html(study: dict, margin: float = verdict.MARGIN, command: str = "") -> str:
    """The report as one HTML page that loads nothing from outside; it escapes all texts of the user."""
    plan, judgement = study["plan"], verdict.judge(study, margin)
    seconds = sum(record["seconds"] for kind in ("training", "strong", "measured", "fixed") for record in study[kind])
    strong = [record for record in study["strong"] if "failed" not in record]
    return _environment().get_template("report.html.jinja").render(
        plan=plan, verdict=judgement, table=table(study), suite=suite_table(study),
        hidden=hidden_table(study) if strong else None,
        fixed=fixed_table(study) if study["fixed"] else None,
        does=what_changes_do(study), words=WORDS,
        settings=settings(plan), explanations=verdict.explanations(study),
        captions={**CAPTIONS, "suite": suite_caption(study), "curve": curve_caption(study)},
        strong=strong, measured=study["measured"],
        accuracy=inlined(accuracy_figure(study)) if verdict.outcomes(study) else None,
        curve=inlined(curve_figure(study)) if strong else None, minutes=seconds / 60, command=command,
    )  # fmt: skip


def write(study: dict, out: Path, margin: float = verdict.MARGIN, command: str = "") -> tuple[Path, Path]:
    """Write `report.html` and `numbers.csv` into `out`, each atomically."""
    page = write_text(out / "report.html", html(study, margin, command))
    return page, write_text(out / "numbers.csv", as_csv(verdict.numbers(study)))


def contact_sheet(folder: Folder, changes: list[Change], out: Path) -> tuple[Path, dict[str, str]]:
    """Write `changes.html`: images of the folder after every known change and after those given. Also return what each does."""
    does = descriptions(folder.channels)
    does |= {change.name: change.does for change in changes}
    given = {change.name: change for change in changes}
    x = folder.test.images[one_a_class(folder.test.labels)].float() / 255
    rows = []
    for name, text in does.items():
        pictures, fault = [], ""
        try:
            pictures = [png(image) for image in (given.get(name) or parse(name))(x)]
        except ChangeError as error:
            if name in given:
                raise
            fault = str(error)
        rows.append({"name": name, "does": text, "pictures": pictures, "fault": fault})
    page = _environment().get_template("changes.html.jinja").render(folder=folder.name, rows=rows)
    return write_text(out / "changes.html", page), does
