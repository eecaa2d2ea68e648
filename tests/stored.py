"""Records as a run would leave them: for tests that need some in the store."""

import torch

from lib.store import grid, plans, records, results
from lib.store.grid import Item, Measurement

_TABLES = {
    "pairwise_distances": {"d": 784, "left": 1.0, "right": 2.0, "count": 3},
    "example_1_simulation": {"d": 2, "eps": 0.1, "n": 10, "axis": 1, "diagonal": 2, "diagonal_in_cube": 2, "bayes": 0},
    "half_space_simulation": {"direction": "axis", "d": 2, "mass": 0.5, "eps": 0.2, "n": 10, "inside": 7},
    "sphere_separation": {
        "d": 2, "width": 3, "gap": 0.4, "training": "pgd", "eps": 0.1, "n": 10, "clean_accuracy": 1.0, "robust_accuracy": 0.5,
    },
    "sphere_boundary": {
        "panel": 0, "gap": 0.4, "width": 3, "training": "pgd", "eps": 0.1, "n": 10, "clean_accuracy": 1.0,
        "robust_accuracy": 0.5, "angle": 0.0, "radius": 1.2,
    },
    "linear_margin": {"eps": 0.0, "margin": 0.9, "largest_margin": 1.0, "d": 10, "n": 10},
}  # fmt: skip


_RESOLVED = (
    plans.of, plans._needed, plans._evaluation,
    grid._shown_by, grid.dataset_settings, grid.usual_recipes, results._of_several_seeds,
)  # fmt: skip


def resolve_anew() -> None:
    """Forget every plan: what is declared has changed, or has changed back."""
    for resolved in _RESOLVED:
        resolved.cache_clear()


def declare(monkeypatch, mapping: dict, name: str, value: object) -> None:
    """Declare something else in a mapping of `experiments.yml`, for the rest of the test."""
    monkeypatch.setitem(mapping, name, value)
    resolve_anew()


def revise(monkeypatch) -> None:
    """Raise the revision of the code that computes numbers: every record is stale."""
    monkeypatch.setattr(plans, "NUMERICS", dict.fromkeys(plans.NUMERICS, 99))
    resolve_anew()


def _of_evaluation(item: Item, name: str, metrics: dict) -> dict:
    sizes = plans.of(item).evaluation(name).settings["sizes"]
    bits = {
        split: {metric: torch.arange(n) < round(share * n) for metric, share in metrics.get(split, metrics["test"]).items()}
        for split, n in sizes.items()
    }
    return {
        "metrics": {
            split: {m: b.double().mean().item() for m, b in outcomes_of_split.items()}
            for split, outcomes_of_split in bits.items()
        },
        "sizes": sizes,
        "outcomes": {
            split: {m: records.pack(b) for m, b in outcomes_of_split.items()} for split, outcomes_of_split in bits.items()
        },
    }


def _of_measurement(item: Measurement) -> dict:
    settings = plans.of(item).settings
    size = settings.get("points", settings["data"].get("test_size"))
    sizes = {} if item.dataset in grid.spaces() else {"test": size}
    if item.quantity in _TABLES:
        return {"metrics": {}, "sizes": sizes, "table": [_TABLES[item.quantity]]}
    if item.quantity == "pixel_histogram":
        return {"metrics": {}, "sizes": sizes, "histogram": {"edges": [0.0, 0.5, 1.0], "counts": [3 * size, 4 * size]}}
    names = {item.quantity}
    if item.quantity == "linf_distance":
        names = {f"linf_distance_{name}" for name in ("smallest", "percentile_1", "median", "share_above_0.9")}
    value = -1.5 if item.quantity == "log2_perturbable_volume" else 0.5
    return {"metrics": {"test": dict.fromkeys(names, value)}, "sizes": sizes}


def write(item: Item, name: str, metrics: dict | float = 0.5, **content):
    """Write the record `name` of `item`: `metrics`, shares by split or one for all, with outcomes that give them."""
    if isinstance(item, Measurement):
        own = _of_measurement(item)
    elif name == "training":
        steps = plans.of(item).settings["training"]["steps"]
        own = {"metrics": {}, "curve": {"step": [steps], "loss": [0.1], "accuracy": [0.9]}}
    else:
        if not isinstance(metrics, dict):
            asked = list(plans.metrics(name).values())
            if eps := plans.of(item).evaluation(name).settings.get("eps"):
                asked = [f"{metric}_{budget:g}" for metric in asked for budget in eps]
            metrics = {"test": dict.fromkeys(asked, metrics)}
        own = _of_evaluation(item, name, metrics)
    return records.write(item, name, {**own, **content}, seconds=1.234, device=torch.device("cpu"), source="somewhere")
