"""Frames as `lib.store.results` gives them, and what figures say without them: for the tests of the exhibits."""

import numpy as np
import pandas as pd

from lib.store import results

ATTRS = {"exhibit": "table-2", "scale": "laptop", "expected": 54, "complete": 1, "command": "python -m lib run table-2"}
PAPER = results.published("table-2")
TABLE_1, TABLE_4, TABLE_6, TABLE_7 = (results.published(f"table-{number}") for number in (1, 4, 6, 7))
ROBUST = ("pgd", "robust_accuracy")
UNBOXED = ("pgd", "robust_accuracy_unboxed")
CLEAN, TRAINED = ("standard", "clean_accuracy"), ("pgd", "clean_accuracy")
BOXES = [("original", *ROBUST, 94.0, 0), ("original", *UNBOXED, 93.5, 0), ("binarize", *ROBUST, 97.0, 0)]


def frame(*rows, exhibit: str = "table-2") -> pd.DataFrame:
    """Rows (transform, training, metric, value, seed) as `results.frame` gives them; None is stale."""
    columns = {
        "scale": "laptop",
        "dataset": "mnist",
        "model": "lenet5",
        "widen_factor": 0.25,
        "train_size": 60000,
        "recipe": "default",
        "evaluation": "pgd",
        "split": "test",
        "n": 10000,
        "source": "MNIST",
        "device": "a processor",
        "commit": "abc",
        "date": "2026-01-02T",
    }
    listed = [
        {
            **columns,
            "transform": t,
            "training": g,
            "metric": m,
            "value": np.nan if v is None else v,
            "seed": s,
            "status": "stale" if v is None else "recorded",
        }
        for t, g, m, v, s in rows
    ]
    recorded = pd.DataFrame(listed, columns=list(results.COLUMNS))
    recorded.attrs = {**ATTRS, "exhibit": exhibit}
    return recorded


NO_RECORDS = frame()


def along(axis, *points) -> pd.DataFrame:
    """As `frame`, from points (transform, training, metric, value, split, value of the axis), with one seed."""
    rows = frame(*((*point[:4], 0) for point in points))
    rows["split"] = [point[4] for point in points]
    rows[axis] = [point[5] for point in points]
    rows.attrs = {**ATTRS, "exhibit": "figure-4-capacity-mnist" if axis == "widen_factor" else "figure-4-samples-mnist"}
    return rows


def measured(metric, values) -> pd.DataFrame:
    """Measurements of the test images of transforms."""
    rows = frame(*((name, "", metric, value, 0) for name, value in values.items()))
    rows["model"] = ""
    return rows


ABOUT = {
    "model": "",
    "source": "simulated",
    "device": "d",
    "commit": "c",
    "date": "2026",
    "scale": "laptop",
    "status": "recorded",
}


def tables(*rows: dict, exhibit: str = "example-1") -> pd.DataFrame:
    """Rows as `results.tables` gives them."""
    recorded = pd.DataFrame([{"dataset": "cube", "transform": "original", **ABOUT, **row} for row in rows] or None)
    recorded = recorded if rows else pd.DataFrame(columns=["dataset", "transform", *ABOUT])
    recorded.attrs = {**ATTRS, "exhibit": exhibit, "command": f"python -m lib run {exhibit}"}
    return recorded


def is_empty(figure) -> bool:
    """Whether a figure says no more than how to compute it."""
    (ax,) = figure.axes
    (text,) = ax.texts
    return not ax.lines and text.get_text().startswith("not computed yet; compute it with:\npython -m lib run ")
