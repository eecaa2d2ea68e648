"""Measures quantities that need no training: one function for each quantity."""

import math
import time
from itertools import product

import numpy as np
import torch

from lib import data, geometry, theory
from lib.run import material
from lib.store import grid, plans, records
from lib.store.grid import Measurement

BINS = 64  # of a pixel histogram, over [0, 1]


def measure(item: Measurement) -> None:
    """Measure the quantity, on test images or in a space, and record it."""
    began = time.monotonic()
    content, source = measured(item)
    records.write(item, "measured", content, seconds=time.monotonic() - began, device=torch.device("cpu"), source=source)


def measured(item: Measurement) -> tuple[dict, str]:
    """(what its record holds, where the images or the numbers come from)."""
    settings = plans.of(item).settings
    if item.quantity in _OF_CLASSES:
        return {"metrics": {}, "sizes": {}, "table": _OF_CLASSES[item.quantity](settings)}, "simulated"
    if item.dataset in grid.spaces():
        return _measured_in_space(item, settings), f"simulated, uniform on the unit {item.dataset}"
    return _measured_of_images(item, settings)


def _measured_of_images(item: Measurement, settings: dict) -> tuple[dict, str]:
    size = settings["points"] if "points" in settings else settings["data"]["test_size"]
    factor = material.scale_factor(settings["data"]["source"], item.transform, size)
    x, y, source = data.transformed(settings["data"]["source"], "test", item.transform, size=size, factor=factor)
    content = {"metrics": {}, "sizes": {"test": size}, "data": {"test": data.load(settings["data"]["source"], "test").digest}}
    content |= _OF_IMAGES[item.quantity](x, y, settings)
    if factor is not None:
        content["metrics"] = {"test": {**content["metrics"].get("test", {}), "scale_factor": factor}}
    return content, source


def _pixel_histogram(x, y, settings) -> dict:
    counts, edges = np.histogram(x.numpy(), bins=BINS, range=(0, 1))
    return {"histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}


def _log2_perturbable_volume(x, y, settings) -> dict:
    volumes = geometry.log2_perturbable_volume(x, settings["eps"])
    return {"metrics": {"test": {"log2_perturbable_volume": volumes.mean().item()}}}


def _inter_class_distance(x, y, settings) -> dict:
    return {"metrics": {"test": {"inter_class_distance": geometry.inter_class_distance(x, y)}}}


def _linf_distance(x, y, settings) -> dict:
    distances = geometry.linf_distances(x, y).double()
    low, middle = np.quantile(distances.numpy(), (0.01, 0.5))  # torch's refuses so many
    metrics = {
        "linf_distance_smallest": distances.min().item(),
        "linf_distance_percentile_1": float(low),
        "linf_distance_median": float(middle),
        "linf_distance_share_above_0.9": (distances > 0.9).double().mean().item(),
    }
    return {"metrics": {"test": metrics}}


# By quantity: what it says of test images, and in a space of classes to be separated.
_OF_IMAGES = {
    "pixel_histogram": _pixel_histogram,
    "log2_perturbable_volume": _log2_perturbable_volume,
    "inter_class_distance": _inter_class_distance,
    "linf_distance": _linf_distance,
    "pairwise_distances": lambda x, y, settings: {"table": _distance_table(x, settings["bins"])},
}


def _measured_in_space(item: Measurement, settings: dict) -> dict:
    space, seed = item.dataset, settings["seed"]
    rows = []
    for d in settings["dimensions"]:
        if item.quantity == "pairwise_distances":
            points = theory.sample(space, settings["points"], d, np.random.default_rng([seed, d]))
            rows += _distance_table(torch.from_numpy(points), settings["bins"])
        elif item.quantity == "example_1_simulation":
            rows += theory.simulate_example_1(d, settings["eps"], settings["samples"], np.random.default_rng([seed, d]))
        else:
            for i, (direction, mass) in enumerate(product(settings["directions"], settings["masses"])):
                generator = np.random.default_rng([seed, d, i])
                rows += theory.simulate_half_space(space, direction, d, mass, settings["eps"], settings["samples"], generator)
    return {"metrics": {}, "sizes": {}, "table": rows}


def _distance_table(x: torch.Tensor, bins: int) -> list[dict]:
    """The histogram of the pairwise distances, from the smallest to the largest: one row a bin."""
    counts, edges = np.histogram(geometry.pairwise_distances(x).numpy(), bins=bins)
    d = x[0].numel()
    bounds = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return [{"d": d, "left": left, "right": right, "count": count} for left, right, count in bounds]


def _sphere_separation(settings: dict) -> list[dict]:
    """One row a (dimension, width, gap, training): accuracy on both spheres, clean and within eps, and from how many points."""
    eps, gaps = settings["eps"], settings["gaps"]
    cases = list(product(("standard", "pgd"), gaps))
    rows = []
    for dimension, widths in settings["widths"].items():
        for width in widths:
            networks, at = _between_spheres(int(dimension), cases, width, settings)
            shares = geometry.separation(networks, at, eps, points=settings["points"], seed=settings["seed"] + 1)
            for (trained, gap), clean, robust in zip(cases, *(share.tolist() for share in shares), strict=True):
                rows.append(
                    {"d": int(dimension), "width": width, "gap": gap, "training": trained, "eps": eps, "n": settings["points"],
                     "clean_accuracy": clean, "robust_accuracy": robust}
                )  # fmt: skip
    return rows


def _between_spheres(dimension: int, cases: list[tuple[str, float]], width: int, settings: dict):
    """(networks, their gaps) for each (training, gap) of `cases`."""
    gaps = torch.tensor([gap for _, gap in cases])
    eps = torch.tensor([settings["eps"] if trained == "pgd" else 0.0 for trained, _ in cases])
    keywords = {name: settings[name] for name in ("steps", "batch_size", "starts", "seed")}
    return geometry.train_between_spheres(dimension, gaps, eps, width, **keywords), gaps


def _sphere_boundary(settings: dict) -> list[dict]:
    """One row a (panel, angle): how far the boundary is there, in two dimensions."""
    rows = []
    for panel, case in enumerate(settings["panels"]):
        networks, gaps = _between_spheres(2, [(case["training"], case["gap"])], case["width"], settings)
        shares = geometry.separation(networks, gaps, settings["eps"], points=settings["points"], seed=settings["seed"] + 1)
        about = {"panel": panel, **case, "eps": settings["eps"], "n": settings["points"]}
        about |= dict(zip(("clean_accuracy", "robust_accuracy"), (share.item() for share in shares), strict=True))
        radii = geometry.boundary(networks, settings["angles"], farthest=1.5 + case["gap"])[0].tolist()
        rows += [{**about, "angle": 2 * math.pi * i / len(radii), "radius": radius} for i, radius in enumerate(radii)]
    return rows


def _linear_margin(settings: dict) -> list[dict]:
    """One row a budget, a share of the largest margin: the margin that adversarial training with it reaches."""
    x, sign = geometry.blobs(settings["points"], settings["dimension"], settings["seed"])
    largest = geometry.largest_margin(x, sign)
    return [
        {"eps": share * largest, "margin": geometry.linear_margin(x, sign, share * largest, steps=settings["steps"]),
         "largest_margin": largest, "d": settings["dimension"], "n": settings["points"]}
        for share in settings["shares"]
    ]  # fmt: skip


_OF_CLASSES = {
    "sphere_separation": _sphere_separation,
    "sphere_boundary": _sphere_boundary,
    "linear_margin": _linear_margin,
}
