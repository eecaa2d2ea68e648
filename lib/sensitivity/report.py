"""Writes the report of a study from its records: one HTML file that can be mailed, and the numbers as CSV."""

import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from lib.report.table import as_csv
from lib.sensitivity import verdict
from lib.sensitivity.changes import Change, ChangeError, listed, parse
from lib.sensitivity.folder import Folder
from lib.sensitivity.study import one_a_class, png, write_text
from lib.store.intervals import Estimate

_COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9", "#949494", "#5a4a9c", "#222222")
_STYLE = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "text.parse_math": False, "svg.hashsalt": "sensitivity",
}  # fmt: skip


def _short(name: str) -> str:
    """A change's name for a figure: of a user's file its own name, without the folders."""
    return name if len(name) <= 28 else f"…{name[-27:]}"


def accuracy_figure(study: dict) -> Figure:
    """Clean and robust accuracy of each change: the mean over seeds as a bar, each seed as a dot."""
    found = verdict.outcomes(study)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.5 * len(found)), layout="constrained")
        axes = figure.subplots()
        for place, (metric, label) in enumerate(verdict.METRICS.items()):
            shares = [[100 * seed[metric].mean() for seed in seeds.values()] for seeds in found.values()]
            heights = np.arange(len(found)) + 0.4 * place - 0.2
            axes.barh(heights, [np.mean(each) for each in shares], 0.36, color=_COLOURS[place], alpha=0.75, label=label)
            for height, each in zip(heights, shares, strict=True):
                axes.plot(each, [height] * len(each), "o", color="black", markersize=3)
        axes.set_yticks(np.arange(len(found)), [_short(name) for name in found])
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="percent of test images; dots: single trainings")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def curve_figure(study: dict) -> Figure:
    """Robust accuracy against ε, one line a change, and the ε of training as a dashed line."""
    eps = study["plan"]["threat_model"]["eps"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        drawn = [record for record in study["strong"] if "failed" not in record]
        for i, record in enumerate(drawn):
            points = [(float(at), 100 * value) for at, value in record["curve"].items() if float(at) <= 2 * eps + 1e-9]
            style = ("-", "--", ":")[i // len(_COLOURS) % 3]
            colour, label = _COLOURS[i % len(_COLOURS)], _short(record["change"])
            axes.plot(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3, label=label)
        axes.axvline(eps, color="grey", linestyle="--", linewidth=1)
        axes.set(ylim=(0, 100), xlabel="ε, in pixel units (dashed: the ε of training)", ylabel="robust accuracy in percent")
        if drawn:
            figure.legend(loc="outside right upper", frameon=False)
    return figure


def inlined(figure: Figure) -> str:
    """The figure as an SVG in a data address, for an image of a page."""
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def table(study: dict) -> pd.DataFrame:
    """One row a change, texts: accuracies, beside the original with intervals, at half the length; volume and distance."""
    found, halves = verdict.outcomes(study), verdict.outcomes(study, half=True)
    apart = {metric: verdict.differences(found, metric) for metric in verdict.METRICS}
    measured = {record["change"]: record for record in study["measured"]}
    rows = []
    for change in study["plan"]["changes"]:
        name = change["name"]
        row = {"change": name}
        for metric, label in verdict.METRICS.items():
            each = [100 * seed[metric].mean() for seed in found.get(name, {}).values()]
            row[f"{label}, %"] = f"{np.mean(each):.1f}" if each else "failed"
            row[f"{metric}: single trainings"] = ", ".join(f"{value:.1f}" for value in each) or "–"
            beside = apart[metric].from_original.get(name) if apart[metric] else None
            row[f"{metric}: beside the original"] = str(Estimate(*beside)) if beside else "–"
        half = halves.get(name, {}).get(0)
        row["robust at half the length, %"] = f"{100 * half['robust'].mean():.1f}" if half else "–"
        about = measured.get(name, {})
        row["log₂ perturbable volume"] = f"{about['log2_perturbable_volume']:.1f}" if about else "–"
        distance = about.get("inter_class_distance")
        row["inter-class distance"] = f"{distance:.2f}" if distance is not None else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def suite_table(study: dict) -> pd.DataFrame:
    """One row a change, texts: robust accuracy of the same images under the reported attack and under the strongest."""
    rows = verdict.suites(study)
    columns = {"under the reported attack, %": rows["reference"], "under the strongest attacks, %": rows["suite"]}
    return pd.DataFrame({"change": rows["change"], **{name: values.map("{:.1f}".format) for name, values in columns.items()}})


def hidden_table(study: dict) -> pd.DataFrame:
    """The checks for a hidden gradient, texts: one row a change, one column a check."""
    found = verdict.hidden(study)
    found["cell"] = found["verdict"] + " (" + found["detail"] + ")"
    wide = found.pivot(index="change", columns="check", values="cell")
    wide = wide.loc[list(dict.fromkeys(found["change"])), list(dict.fromkeys(found["check"]))]
    return wide.reset_index().rename_axis(columns=None)


def fixed_table(study: dict) -> pd.DataFrame:
    """One row a change, texts: the network trained on unchanged images, with the change before it."""
    rows = []
    for record in study["fixed"]:
        shares = {metric: verdict.bits(text, record["n"]).mean() for metric, text in record.get("outcomes", {}).items()}
        texts = {f"{label}, %": f"{100 * shares[m]:.1f}" if m in shares else "failed" for m, label in verdict.METRICS.items()}
        rows.append({"change": record["change"], **texts})
    return pd.DataFrame(rows)


def settings(plan: dict) -> pd.DataFrame:
    """What was decided, and how to decide otherwise: rows `setting`, `value` and `option`."""
    training, attack, threat = plan["training"], plan["attack"], plan["threat_model"]
    model = plan["model"]
    width = f", widen factor {model['widen_factor']:g}" if "widen_factor" in model else ""
    side, colour = plan["image"]["image_size"], "grey" if plan["image"]["in_channels"] == 1 else "colour"
    batches = f"{training['steps']} of {training['batch_size']} images ({plan['epochs']:g} passes)"
    crafted = f"PGD, {attack['num_steps']} steps of {attack['step_size']:.3g}"
    reported = f"PGD, {threat['num_steps']} steps of {threat['step_size']:.3g}, random start"
    expected = f"about {plan['expected_seconds'] / 60:.1f} expected, {plan['jobs']} trainings at a time"
    rows = [
        ("network", f"{model['name']}{width} ({model['reason']})", "--model"),
        ("ε", f"{threat['eps']:.4g} ({plan['eps_reason']})", "--eps"),
        ("steps of a training", batches, "--minutes, --steps, --batch-size"),
        ("optimiser", f"{training['optimizer']}, learning rate {training['lr']:g}, {training['schedule']}", "--lr"),
        ("attack of training", f"{crafted}; ε grows from 0 over the first {attack['warmup']:.0%}", ""),
        ("reported attack", f"{reported}, on {plan['test_size']} test images", "--attack-steps"),
        ("trainings a change", f"{plan['seeds']}, and one of half the length", "--seeds"),
        ("images", f"{side}×{side}, {colour}", "--size, --colour"),
        ("time", f"{plan['minutes']:g} minutes asked for, {expected}", "--minutes, --jobs"),
        ("machine", f"{plan['device']} for each training", ""),
        ("code", f"commit {plan['commit']}; " + ", ".join(map(" ".join, plan["versions"].items())), ""),
    ]
    return pd.DataFrame(rows, columns=["setting", "value", "option"])


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("lib.sensitivity", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def html(study: dict, margin: float = verdict.MARGIN, command: str = "") -> str:
    """The report as one HTML page that asks for nothing from outside; all texts of the user's are escaped."""
    plan, judged = study["plan"], verdict.judge(study, margin)
    seconds = sum(record["seconds"] for kind in ("training", "strong", "measured", "fixed") for record in study[kind])
    strong = [record for record in study["strong"] if "failed" not in record]
    return _environment().get_template("report.html.jinja").render(
        plan=plan, verdict=judged, table=table(study), suite=suite_table(study), hidden=hidden_table(study) if strong else None,
        fixed=fixed_table(study) if study["fixed"] else None,
        does={change["name"]: change["does"] for change in plan["changes"]},
        settings=settings(plan), explanations=verdict.explanations(study),
        suite_name=strong[0]["suite"]["name"] if strong else "", strong=strong, measured=study["measured"],
        accuracy=inlined(accuracy_figure(study)) if verdict.outcomes(study) else None,
        curve=inlined(curve_figure(study)) if strong else None, minutes=seconds / 60, command=command,
    )  # fmt: skip


def write(study: dict, out: Path, margin: float = verdict.MARGIN, command: str = "") -> tuple[Path, Path]:
    """Write `report.html` and `numbers.csv` into `out`, atomically each."""
    page = write_text(out / "report.html", html(study, margin, command))
    return page, write_text(out / "numbers.csv", as_csv(verdict.numbers(study)))


def contact_sheet(folder: Folder, changes: list[Change], out: Path) -> tuple[Path, dict[str, str]]:
    """Write `changes.html`, every change there is and those given on the folder's own images; and what each does."""
    does = listed(folder.channels)
    does |= {change.name: change.does for change in changes}
    own = {change.name: change for change in changes}
    x = folder.test.images[one_a_class(folder.test.labels)].float() / 255
    rows = []
    for name, text in does.items():
        pictures, fault = [], ""
        try:
            pictures = [png(image) for image in (own.get(name) or parse(name))(x)]
        except ChangeError as error:
            if name in own:
                raise
            fault = str(error)
        rows.append({"name": name, "does": text, "pictures": pictures, "fault": fault})
    page = _environment().get_template("changes.html.jinja").render(folder=folder.name, rows=rows)
    return write_text(out / "changes.html", page), does
