"""Run → data → train → evaluate → record. What is recorded is never computed again.

experiments.complete(grid.runs("table-2", "laptop"))
experiments.collect("table-2", scale="auto")    # the frame an exhibit shows
"""

import ast
import ctypes
import hashlib
import json
import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from itertools import product
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from torch import nn
from tqdm import tqdm

from lib import attacks, certified, data, evaluation, files, geometry, models, theory, training, transforms
from lib.store import grid, records, results, schema, weights
from lib.store.grid import Item, Measurement, Run

ROOT = Path(__file__).resolve().parents[2]
QUANTITIES = (
    "pixel_histogram", "log2_perturbable_volume", "inter_class_distance", "pairwise_distances", "linf_distance",
    "example_1_simulation", "half_space_simulation", "sphere_separation", "sphere_boundary", "linear_margin",
)  # fmt: skip
BINS = 64  # of a pixel histogram, over [0, 1]
CHANCE = 0.001  # an outcome less likely than this is none of chance's

log = logging.getLogger(__name__)


class WorkerDiedError(RuntimeError):
    """A process of `complete`'s was killed from outside."""


def device(name: str = "auto") -> torch.device:
    """`auto`: the GPU where there is one, else the CPU; or `cpu`, `cuda`, `cuda:N`.

    On a GPU float32 is float32 (no TF32) and algorithms are deterministic; a processor keeps freed memory. ValueError for
    any other name or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    allowed = re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name)
    if not allowed:
        raise ValueError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    _keep_freed_memory()
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, instead of giving it back to the system.

    A step of the attack allocates the same few megabytes again and again; page faults were a quarter of its time. The
    numbers are glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD; other C libraries have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(-1, 2**30)
    mallopt(-3, 2**25)


def checkpoints() -> Path:
    """Where checkpoints lie: `CHECKPOINT_DIR`, relative to the repository, or `checkpoints/`."""
    return ROOT / Path(os.environ.get("CHECKPOINT_DIR") or "checkpoints").expanduser()


def checkpoint_folder(run: Run) -> Path:
    """Where a run's checkpoint and weights lie: `CHECKPOINT_DIR`, by default `checkpoints/`.

    The folder's name holds a digest of the settings: weights trained with other settings are never taken for these.
    """
    identity = json.dumps([grid.settings(run), grid.numerics(run)], sort_keys=True)
    return checkpoints() / run.scale / run.key / hashlib.sha256(identity.encode()).hexdigest()[:12]


def scale_factor(source: str, transform: str, size: int) -> float | None:
    """The factor that gives the set the inter-class distance of the one its `rescale-to-…` names (Section 5.2).

    Distances scale with the factor, so it is the ratio of two distances, both taken on `size` test images. None for a
    transform without such a step. ValueError where the target is farther apart: scaling up would leave the unit cube.
    """
    target = transforms.rescale_target(transform)
    if target is None:
        return None
    base = transform.rpartition("+")[0] or "original"
    aim, reached = (_distance(source, name, size, os.environ.get("DATA_DIR")) for name in (target, base))
    if aim > reached:
        raise ValueError(
            f"{transform}: {target} is farther apart ({aim:.3f}) than {base} ({reached:.3f}); no scale factor ≤ 1 reaches it"
        )
    return aim / reached


@cache
def _distance(source: str, transform: str, size: int, folder: str | None) -> float:
    """The inter-class distance of test images; several seconds on 10,000, and each run needs it several times."""
    x, y, _ = data.transformed(source, "test", transform, size=size)
    return geometry.inter_class_distance(x, y)


def _factor(run: Run) -> float | None:
    sizes = grid.evaluation_settings(run, "clean")["sizes"]
    return scale_factor(grid.settings(run)["data"]["source"], run.transform, sizes["test"])


def _solved(run: Run) -> dict[str, float]:
    """What the records of a run say of the scale factor that was solved for, if one was."""
    factor = _factor(run)
    return {} if factor is None else {"scale_factor": factor}


def _images(run: Run, split: str, size: int, where: torch.device):
    resolved = grid.settings(run)["data"]
    factor = _factor(run)
    # A smaller subset is a prefix of a larger one: the training images evaluated are among those trained on.
    seed = run.seed if split == "train" else 0
    x, y, source = data.transformed(resolved["source"], split, run.transform, size=size, seed=seed, factor=factor)
    return x.to(where), y.to(where), source


def new_model(run: Run, where: torch.device) -> nn.Module:
    """The run's network with its initial weights, which its seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return models.build(**grid.settings(run)["model"]).to(where)


def _finished(run: Run, where: torch.device) -> nn.Module | None:
    """The network with the final weights of its checkpoint folder, or kept beside its record; None unless they are those that
    the record tells of.
    """
    file = checkpoint_folder(run) / "weights.safetensors"
    if records.status(run, "training") != "recorded":
        return None
    if not file.exists():  # those that are kept beside the record do as well, unless they were rounded
        kept = weights.path(run).exists() and not weights.is_rounded(run)
        return weights.load(run).to(where) if kept else None
    model = new_model(run, where)
    tensors, _ = training.load_tensors(file, "cpu")
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise training.CheckpointError(f"{file} is not of this network; delete it to have it trained again") from None
    # Weights that were written and not yet recorded when the process was killed are trained again, from the checkpoint.
    return model.eval() if records.read(run, "training").get("weights") in (None, weights.digest(model)) else None


def keep_weights(run: Run) -> bool:
    """Keep the weights of a run that was trained here before, if its are kept at all. Returns whether any were written.

    They are attacked again, as `check_kept` does, and raise what it raises.
    """
    model = _finished(run, torch.device("cpu")) if grid.keeps_weights(run) else None
    written = model is not None and weights.keep(run, model)
    if written and records.status(run, "pgd") == "recorded":
        check_kept(run)
    return written


def check_kept(run: Run, images: int = 500) -> None:
    """Attack the kept weights of `run` as its record `pgd` says, on the first so many test images, and compare image by image.

    Another processor's rounding tips images either way. So of those on which the two outcomes differ, an exact sign test must
    not find that one side has more (p < .001). RecordError, with the numbers, where it does: these weights do not give the
    record. FileNotFoundError where no weights are kept, or no such record is.
    """
    record = records.read(run, "pgd")
    resolved = record["settings"]["evaluation"]
    x, y, _ = _images(run, "test", record["sizes"]["test"], torch.device("cpu"))
    generator = torch.Generator().manual_seed(resolved["seed"])
    threat_model = attacks.ThreatModel(**resolved["threat_model"])
    found = evaluation.evaluate(
        weights.load(run), x[:images], y[:images], threat_model, generator=generator, description=f"{run}, attacked again"
    ).outcomes()
    for metric, outcome in found.items():
        recorded = records.unpack(record["outcomes"]["test"][metric], record["sizes"]["test"])[:images]
        more, fewer = int((outcome & ~recorded).sum()), int((recorded & ~outcome).sum())
        if more + fewer and binomtest(more, more + fewer).pvalue < CHANCE:
            ours, theirs = (f"{100 * bits.double().mean():.1f}%" for bits in (outcome, recorded))
            raise records.RecordError(
                f"{weights.path(run)} does not give its record: on {len(outcome)} images {metric} is {ours}, recorded "
                f"{theirs}; {more} stand that fell, {fewer} fall that stood. The record stays; delete the file to have it "
                f"written again"
            )


def trained_model(run: Run, where: torch.device) -> nn.Module:
    """The run's network with its final weights: from its checkpoint folder, or trained now and recorded.

    A training that fails is recorded as such, with its curve, and raises TrainingFailedError.
    """
    folder = checkpoint_folder(run)
    model = _finished(run, where)
    if model is not None:
        weights.keep(run, model)
        return model
    model = new_model(run, where)
    settings = grid.settings(run)
    robust_loss = certified.training_loss(**settings["certificate"]) if "certificate" in settings else None
    x, y, source = _images(run, "train", run.train_size, where)
    try:
        done = training.train(
            model, x, y, **settings["training"], attack=settings.get("attack"), robust_loss=robust_loss,
            checkpoint=folder / "training.safetensors", description=str(run),
        )  # fmt: skip
    except training.TrainingFailedError as failure:
        content = {"metrics": {}, "curve": failure.curve, "failed": schema.words(failure.reason), **_solved(run)}
        records.write(run, "training", content, seconds=failure.seconds, device=where, source=source)
        (folder / "training.safetensors").unlink(missing_ok=True)
        raise
    training.save_tensors(folder / "weights.safetensors", model.state_dict(), {"key": run.key})
    content = {"metrics": {}, "curve": done.curve, "weights": weights.digest(model), **_solved(run)}
    if settings.get("attack", {}).get("precision") == "float32":
        content["engine"] = attacks.engine_of(model, x[:1])
    records.write(run, "training", content, seconds=done.seconds, device=where, source=source)
    weights.keep(run, model)
    (folder / "training.safetensors").unlink(missing_ok=True)
    return model


def _evaluate(run: Run, name: str, model: nn.Module, where: torch.device) -> None:
    resolved = grid.evaluation_settings(run, name)
    began = time.monotonic()
    metrics, outcomes, sources = {}, {}, set()
    for split, size in resolved["sizes"].items():
        x, y, source = _images(run, split, size, where)
        kind = next((kind for kind in _KINDS if kind in resolved), "")
        evaluated = _KINDS.get(kind, _evaluated)
        named = evaluated(run, name, resolved, model, x, y, f"{run}, {name} on {split}")
        metrics[split] = {metric: bits.double().mean().item() for metric, bits in named.items()}
        outcomes[split] = {metric: records.pack(bits) for metric, bits in named.items()}
        sources.add(source)
    content = {"metrics": metrics, "sizes": resolved["sizes"], "outcomes": outcomes, "weights": weights.digest(model)}
    content |= _solved(run)
    if not {"threat_model", "autoattack"}.isdisjoint(resolved):
        content["engine"] = attacks.engine_of(model, x[:1])
    seconds = time.monotonic() - began
    records.write(run, name, content, seconds=seconds, device=where, source=", ".join(sorted(sources)))


def _evaluated(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """By metric, the outcome for each image of the paper's kind of evaluation."""
    threat_model = attacks.ThreatModel(**resolved["threat_model"]) if "threat_model" in resolved else None
    found = evaluation.evaluate(
        model, x, y, threat_model, generator=torch.Generator(x.device).manual_seed(resolved["seed"]), description=description
    )
    each = found.outcomes()
    if "certificate" in resolved:
        each |= _certify(run, model, x, y, found, threat_model, resolved["certificate"])
    if "ramp" in resolved:
        each |= _behind_a_ramp(run, model, x, y, found, threat_model, **resolved["ramp"], seed=resolved["seed"])
    return {own: each[metric] for metric, own in grid.metrics(name).items()}


def _certify(run, model, x, y, found, threat_model, metrics) -> dict[str, torch.Tensor]:
    """By metric, whether each image is *not* certified. ArithmeticError where an attack broke a certificate."""
    failing = {}
    for metric in metrics:
        box = None if metric == "certified_error_unboxed" else threat_model.bounds
        lower = certified.margins(model, x, y, eps=threat_model.eps, bounds=box, description=f"{run}, {metric}")
        failing[metric] = ~certified.certified(lower)
        _check_certificates(run, metric, ~failing[metric], {"PGD": found.correct & found.robust})
    return failing


def _check_certificates(run, metric, certain, robust: dict[str, torch.Tensor]) -> None:
    for attack, outcome in robust.items():
        broken = (certain & ~outcome).nonzero().flatten().tolist()
        if broken:
            raise ArithmeticError(
                f"{run}, {metric}: {attack} changes the class of certified images {broken[:5]}; nothing recorded"
            )


def _behind_a_ramp(run, model, x, y, found, threat_model, *, slope, queries, seed) -> dict[str, torch.Tensor]:
    """By metric, what becomes of each image with the classifier behind a ramp; `bare` is the classifier without it.

    ArithmeticError where an attack broke a certificate.
    """
    bare, ramped = model, models.Ramped(model, slope)
    certain = certified.certified_by_ramp(model, x, y, eps=threat_model.eps, slope=slope)

    def keywords(attack: str) -> dict:
        # Every attack begins with the same starts.
        return {"generator": torch.Generator(x.device).manual_seed(seed), "description": f"{run}, {attack}"}

    pgd = evaluation.evaluate(ramped, x, y, threat_model, **keywords("ramp, PGD"))
    bpda = evaluation.evaluate(models.Ramped(model, slope, straight_through=True), x, y, threat_model, **keywords("ramp, BPDA"))
    square = {
        name: evaluation.robust_to_square(network, x, y, threat_model, queries=queries, **keywords(f"{name}, Square"))
        for name, network in (("bare", bare), ("ramp", ramped))
    }
    robust = {"PGD": pgd.robust, "BPDA": bpda.robust, "Square": square["ramp"]}
    _check_certificates(run, "certified_error_ramp", certain, {"no attack": pgd.correct, **robust})
    return {
        "clean_accuracy_ramp": pgd.correct,
        "certified_error_ramp": ~certain,
        **{f"robust_accuracy_ramp_{attack.lower()}": outcome for attack, outcome in robust.items()},
        "robust_accuracy_bare_pgd": found.robust,
        "robust_accuracy_bare_square": square["bare"],
        "moved_by_pgd_ramp": evaluation.moved_by_pgd(ramped, x, y, threat_model, generator=keywords("")["generator"]),
    }


def _surviving(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """By metric, which images are still classified as their label under an attack against it."""
    (metric,) = grid.metrics(name).values()
    if "autoattack" in resolved:
        craft = partial(attacks.autoattack, model, seed=resolved["seed"], **resolved["autoattack"])
        return {metric: evaluation.survives(model, x, y, craft, eps=resolved["autoattack"]["eps"], description=description)}
    surrogate = grid.surrogate(run, name)
    attacked = _locked_model(surrogate, x.device) if surrogate else model
    threat_models = {metric: resolved["threat_model"]}
    if "eps" in resolved:
        threat_models = {f"{metric}_{eps:g}": _scaled(resolved["threat_model"], eps) for eps in resolved["eps"]}
    found = {}
    for own, settings in threat_models.items():
        threat_model = attacks.ThreatModel(**settings)
        # Every attack begins with the same starts.
        generator = torch.Generator(x.device).manual_seed(resolved["seed"])
        craft = partial(attacks.pgd, attacked, generator=generator, **threat_model.attack())
        found[own] = evaluation.survives(
            model, x, y, craft, eps=threat_model.eps, bounds=threat_model.bounds, description=f"{description}, {own}"
        )
    return found


def _with_changed_weights(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """By metric, which images withstand the attack on the network with its weights changed, one metric a change."""
    threat_model, found = attacks.ThreatModel(**resolved["threat_model"]), {}
    for change, metric in zip(resolved["changes"], grid.metrics(name).values(), strict=True):
        network = weights.changed(model, change)
        generator = torch.Generator(x.device).manual_seed(resolved["seed"])  # every attack begins with the same starts
        craft = partial(attacks.pgd, network, generator=generator, **threat_model.attack())
        found[metric] = evaluation.survives(network, x, y, craft, eps=threat_model.eps, description=f"{description}, {change}")
    return found


# By what tells an evaluation's kind from the paper's; the first that is there counts.
_KINDS = {"changes": _with_changed_weights, "against": _surviving}


def _scaled(threat_model: dict, eps: float) -> dict:
    """The threat model with another budget, and its step in proportion; without a budget, without steps."""
    step_size = threat_model["step_size"] * eps / threat_model["eps"]
    return {**threat_model, "eps": eps, "step_size": step_size, "num_steps": threat_model["num_steps"] if eps else 0}


def _clear(run: Run) -> None:
    """Delete what a killed process was writing of a run's checkpoint and weights. To be called by who holds its lock."""
    kept = weights.path(run)
    for part in (*checkpoint_folder(run).glob(".*.safetensors.*"), *kept.parent.glob(f".{kept.name}.*")):
        part.unlink(missing_ok=True)


def _locked_model(run: Run, where: torch.device) -> nn.Module:
    """`trained_model` of a run that is not the one in hand: no other process trains it meanwhile. What failed fails again."""
    folder = checkpoint_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    with files.alone(folder / "lock"):
        _clear(run)
        if records.status(run, "training") == "failed":
            record = records.read(run, "training")
            raise training.TrainingFailedError(record["failed"], record["curve"], record["seconds"])
        return trained_model(run, where)


def measure(item: Measurement) -> None:
    """Measure the quantity, on test images or in a space, and record it. ValueError for an unknown quantity."""
    if item.quantity not in QUANTITIES:
        raise ValueError(f"unknown quantity {item.quantity!r}; allowed: {', '.join(QUANTITIES)}")
    settings = grid.settings(item)
    began = time.monotonic()
    if item.quantity in _OF_CLASSES:
        content, source = {"metrics": {}, "sizes": {}, "table": _OF_CLASSES[item.quantity](settings)}, "simulated"
    elif item.dataset in grid.spaces():
        content, source = _measured_in_space(item, settings), f"simulated, uniform on the unit {item.dataset}"
    else:
        content, source = _measured_of_images(item, settings)
    records.write(item, "measured", content, seconds=time.monotonic() - began, device=torch.device("cpu"), source=source)


def _measured_of_images(item: Measurement, settings: dict) -> tuple[dict, str]:
    size = settings["points"] if "points" in settings else settings["data"]["test_size"]
    factor = scale_factor(settings["data"]["source"], item.transform, size)
    x, y, source = data.transformed(settings["data"]["source"], "test", item.transform, size=size, factor=factor)
    content = {"metrics": {}, "sizes": {"test": size}}
    if item.quantity == "pixel_histogram":
        counts, edges = np.histogram(x.numpy(), bins=BINS, range=(0, 1))
        content["histogram"] = {"edges": edges.tolist(), "counts": counts.tolist()}
    elif item.quantity == "log2_perturbable_volume":
        volumes = geometry.log2_perturbable_volume(x, settings["eps"])
        content["metrics"]["test"] = {item.quantity: volumes.mean().item()}
    elif item.quantity == "linf_distance":
        distances = geometry.linf_distances(x, y).double()
        low, middle = np.quantile(distances.numpy(), (0.01, 0.5))  # torch's refuses so many
        content["metrics"]["test"] = {
            "linf_distance_smallest": distances.min().item(),
            "linf_distance_percentile_1": float(low),
            "linf_distance_median": float(middle),
            "linf_distance_share_above_0.9": (distances > 0.9).double().mean().item(),
        }
    elif item.quantity == "inter_class_distance":
        content["metrics"]["test"] = {item.quantity: geometry.inter_class_distance(x, y)}
    else:
        content["table"] = _distance_table(x, settings["bins"])
    if factor is not None:
        content["metrics"].setdefault("test", {})["scale_factor"] = factor
    return content, source


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
            found, at = _between_spheres(int(dimension), cases, width, settings)
            shares = geometry.separation(found, at, eps, points=settings["points"], seed=settings["seed"] + 1)
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
        found, gaps = _between_spheres(2, [(case["training"], case["gap"])], case["width"], settings)
        shares = geometry.separation(found, gaps, settings["eps"], points=settings["points"], seed=settings["seed"] + 1)
        about = {"panel": panel, **case, "eps": settings["eps"], "n": settings["points"]}
        about |= dict(zip(("clean_accuracy", "robust_accuracy"), (share.item() for share in shares), strict=True))
        radii = geometry.boundary(found, settings["angles"], farthest=1.5 + case["gap"])[0].tolist()
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


def complete_one(item: Item, where: torch.device) -> bool:
    """Compute what `item` lacks. Returns whether there was anything to do.

    A second process asked for the same run waits for the first, then finds it recorded. A dead process's lock is free.
    """
    if not records.missing(item):
        return False
    if isinstance(item, Measurement):
        with records.alone(item):
            if not records.missing(item):
                return False
            records.prepare(item)
            measure(item)
        return True
    folder = checkpoint_folder(item)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write checkpoints to {folder}: {error.strerror}") from None
    # Two processes may share the records and not the checkpoints.
    with records.alone(item), files.alone(folder / "lock"):
        missing = records.missing(item)
        if missing:
            records.prepare(item)
            _clear(item)
            try:
                model = trained_model(item, where)
            except training.TrainingFailedError as failure:
                log.warning("%s failed and is recorded as failed: %s", item, failure)
                return True
            # Asked again: evaluations of weights that are gone are stale once those of today are recorded.
            for name in records.missing(item):
                try:
                    _evaluate(item, name, model, where)
                except training.TrainingFailedError as failure:
                    log.warning("%s lacks %s: the model that its attack is crafted on failed: %s", item, name, failure)
            if grid.keeps_weights(item):
                check_kept(item)
        return bool(missing)


def complete(items: Iterable[Item], where: torch.device | str = "auto", *, jobs: int = 1) -> int:
    """Compute whatever is missing or stale among `items`, in order; returns how many were computed.

    `jobs` runs go side by side, each in a process of its own with its share of the processor's threads: for narrow
    networks that is more than one run with all threads. More processes than there are runs or processors (two at least) are
    not begun. Raises ValueError for jobs < 1, and what a run raises.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be ≥ 1, given {jobs}")
    items = list(items)
    # More processes than processors or runs would only take memory.
    jobs = min(jobs, max(os.cpu_count() or 1, 2), max(len(items), 1))
    where = _start(where, torch.get_num_threads())
    if jobs == 1:
        computed = 0
        for i, item in enumerate(items):
            log.info("%d of %d: %s", i + 1, len(items), item)
            computed += complete_one(item, where)
        return computed
    waiting = [item for item in items if records.missing(item)]
    most = min(jobs, max(1, len(waiting)), max(2, os.cpu_count() or 1))
    if most < jobs:
        log.info("%d jobs side by side, not %d: %d runs wait for %d processors", most, jobs, len(waiting), os.cpu_count())
    jobs, threads = most, max(1, torch.get_num_threads() // most)
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # for the processes started here: their bars would overwrite one another
    others = active_children()
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start_worker, initargs=(where, threads)) as pool:
        # The workers inherit this: an interrupt from the keyboard, which all of them get, is this process's to handle.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        futures = {pool.submit(complete_one, item, where): item for item in waiting}
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for i, future in enumerate(as_completed(futures)):
                try:
                    future.result()
                except BrokenProcessPool:
                    running = ", ".join(str(item) for f, item in futures.items() if not f.done() or f.exception() is not None)
                    raise WorkerDiedError(
                        f"a process that computed one of these ended without a word, killed perhaps for want of memory: "
                        f"{running}; what was recorded is kept, and the same command goes on from there"
                    ) from None
                log.info("%d of %d done: %s", i + 1, len(waiting), futures[future])
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt: the runs in hand are not waited for, nor those queued up
                for worker in set(active_children()) - set(others):
                    worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            os.environ.pop("TQDM_DISABLE")
            if bars is not None:
                os.environ["TQDM_DISABLE"] = bars
    return len(waiting)


def _start(where: torch.device | str, threads: int) -> torch.device:
    """Make this process ready to compute."""
    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # the default is a semaphore of the system's, which a terminated worker would leave behind
    records.provenance()  # the commit of the code that runs, not of what the checkout holds hours later
    return device(str(where))


def _start_worker(where: torch.device | str, threads: int) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _start(where, threads)


def _end_with_the_parent() -> None:
    """A worker whose parent was killed would go on with its run, then wait for ever for the next one."""
    parent_process().join()
    os._exit(1)


def collect(exhibit: str, scale: str = "auto", *, seeds: int | str = "all", device: str = "auto") -> pd.DataFrame:
    """The records that the exhibit shows. `auto` reads what there is; a scale by name first computes what is missing at it.

    Not a stretch: that takes longer than a page may, and `python -m lib run` computes it.
    """
    if scale != "auto":
        items = grid.runs(exhibit, scale, seeds=seeds, stretches=False)
        # A run that lacks only what another exhibit takes of it stays as it is: its weights may be gone.
        complete([item for item in items if records.missing(item, exhibit)], device)
    return results.select(exhibit, scale, seeds=seeds)


def collect_histograms(exhibit: str, scale: str = "auto") -> pd.DataFrame:
    """As `collect`, for an exhibit of pixel histograms: one row a bin."""
    if scale != "auto":
        complete(grid.runs(exhibit, scale))
    return results.histograms(exhibit, scale)


def collect_tables(exhibit: str, scale: str = "auto") -> pd.DataFrame:
    """As `collect`, for an exhibit of measurements that leave a table each: simulations, distances."""
    if scale != "auto":
        complete(grid.runs(exhibit, scale))
    return results.tables(exhibit, scale)


def pictures(*datasets: str, names: Iterable[str], count: int = 2) -> tuple[dict[str, np.ndarray], str]:
    """The test image of most contrast in each of the last `count` classes, under each transform, and where they come from.

    They are drawn from the first of `datasets` that is at hand. Each transform gives `count×H×W×C`, values in [0, 1].
    """
    source = data.at_hand(*datasets)
    loaded = data.load(source, "test")
    x = loaded.batch()
    contrast = x.flatten(1).std(1)
    classes = loaded.labels.unique()[-count:]
    chosen = x[[int(torch.where(loaded.labels == label, contrast, -1).argmax()) for label in classes]]
    return {name: transforms.parse(name)(chosen).permute(0, 2, 3, 1).numpy() for name in names}, loaded.source


def _injected(namespace: Mapping[str, object]) -> set[str]:
    """The names that papermill's cell assigns; the notebook's cells so far are IPython's `In`."""
    names = set()
    for cell in namespace.get("In", []):
        if cell.startswith("# Parameters\n"):
            statements = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            names |= {target.id for node in statements for target in node.targets if isinstance(target, ast.Name)}
    return names


def check_parameters(namespace: Mapping[str, object], **allowed: Iterable[str]) -> None:
    """Refuse a notebook's parameters that are wrong or misspelt, before anything is computed.

    `namespace`: the notebook's globals; `allowed`: the values of its own parameters, `variant=("all", …)`. Every
    notebook has `scale`, `seeds` and `device` besides. papermill only warns of a parameter it does not know; here it
    is an error. What the reader or the notebook itself has named is no parameter.

    Raises ValueError that says what was given and what is allowed.
    """
    allowed = {**allowed, "scale": ("auto", *grid.SCALES)}
    known = {*allowed, "seeds", "device"}
    for name in sorted(_injected(namespace) - known):
        raise ValueError(f"unknown parameter {name!r}; allowed: {', '.join(sorted(known))}")
    for name, values in allowed.items():
        if namespace[name] not in tuple(values):
            raise ValueError(f"unknown {name} {namespace[name]!r}; allowed: {', '.join(values)}")
    seeds = namespace["seeds"]
    if seeds != "all" and (isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1):
        raise ValueError(f"seeds must be 'all' or a number ≥ 1, given {seeds!r}")
    device(str(namespace["device"]))
