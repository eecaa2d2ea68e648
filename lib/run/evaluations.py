"""Evaluates trained models: one function for each kind of evaluation."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from lib import attacks, certified, evaluation, models
from lib.run import material
from lib.store import plans, records, weights
from lib.store.grid import Run


def evaluate(run: Run, name: str, model: nn.Module, device: torch.device) -> None:
    """Take the evaluation `name` of the trained `model` of `run`, and record it. Raises what its attacks raise."""
    resolved = plans.of(run).evaluation(name).settings
    began = time.monotonic()
    metrics, outcomes, sources = {}, {}, set()
    for split, size in resolved["sizes"].items():
        x, y, source = material.images_of(run, split, size, device)
        named = outcomes_of(run, name, resolved, model, x, y, f"{run}, {name} on {split}")
        metrics[split] = {metric: bits.double().mean().item() for metric, bits in named.items()}
        outcomes[split] = {metric: records.pack(bits) for metric, bits in named.items()}
        sources.add(source)
    content = {"metrics": metrics, "sizes": resolved["sizes"], "outcomes": outcomes, "weights": weights.digest(model)}
    content |= material.image_provenance(run, *resolved["sizes"])
    if is_plain(resolved):
        content["engine"] = attacks.engine_of(model, x[:1])
    seconds = time.monotonic() - began
    records.write(run, name, content, seconds=seconds, device=device, source=", ".join(sorted(sources)))


# What the paper's attack is; `attacks.pgd` takes any other in another way than `attacks.engine_of` says.
_PLAIN = {"early_stop": False, "loss": "cross_entropy", "momentum": 0.0}


def is_plain(resolved: dict) -> bool:
    """Whether an evaluation with these settings attacks the model itself, and nothing else, by plain PGD."""
    threat_model = resolved.get("threat_model")
    if threat_model is None or not {"ramp", "changes", "surrogate"}.isdisjoint(resolved):
        return False
    return all(threat_model.get(name, value) == value for name, value in _PLAIN.items())


def outcomes_of(run: Run, name: str, resolved: dict, model: nn.Module, x, y, description: str) -> dict[str, torch.Tensor]:
    """By metric, a truth value for each image: what the evaluation `name` with the settings `resolved` finds on `x` and `y`."""
    return kind_of(resolved)(run, name, resolved, model, x, y, description)


def kind_of(resolved: dict) -> Callable:
    """The function that takes an evaluation with these settings."""
    return next((function for kind, function in _KINDS.items() if kind in resolved), _evaluated)


def _attacked(resolved, model, x, y, description) -> tuple[evaluation.Evaluation, attacks.ThreatModel | None]:
    """The paper's evaluation, and the threat model it was attacked with, if it was."""
    threat_model = attacks.ThreatModel(**resolved["threat_model"]) if "threat_model" in resolved else None
    generator = torch.Generator(x.device).manual_seed(resolved["seed"])
    return evaluation.evaluate(model, x, y, threat_model, generator=generator, description=description), threat_model


def _named(name: str, outcomes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of the outcomes that the evaluation records, by the names that it records them under."""
    return {own: outcomes[metric] for metric, own in plans.metrics(name).items()}


def _evaluated(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """By metric, the outcome for each image of the paper's kind of evaluation."""
    evaluated, _ = _attacked(resolved, model, x, y, description)
    return _named(name, evaluated.outcomes())


def _certified(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """As `_evaluated`, and whether each image is *not* certified. ArithmeticError where an attack broke a certificate."""
    evaluated, threat_model = _attacked(resolved, model, x, y, description)
    outcomes = evaluated.outcomes()
    for metric in resolved["certificate"]:
        box = None if metric == "certified_error_unboxed" else threat_model.bounds
        lower = certified.margins(model, x, y, eps=threat_model.eps, bounds=box, description=f"{run}, {metric}")
        outcomes[metric] = ~certified.certified(lower)
        _check_certificates(run, metric, ~outcomes[metric], {"PGD": evaluated.correct & evaluated.robust})
    return _named(name, outcomes)


def _check_certificates(run, metric, certain, robust: dict[str, torch.Tensor]) -> None:
    for attack, outcome in robust.items():
        broken = (certain & ~outcome).nonzero().flatten().tolist()
        if broken:
            raise ArithmeticError(
                f"{run}, {metric}: {attack} changes the class of certified images {broken[:5]}; nothing recorded"
            )


def _behind_a_ramp(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """By metric, what becomes of each image with the classifier behind a ramp; `bare` is the classifier without it.

    ArithmeticError where an attack broke a certificate.
    """
    evaluated, threat_model = _attacked(resolved, model, x, y, description)
    slope, budget = resolved["ramp"]["slope"], {"eps": threat_model.eps, "bounds": threat_model.bounds}
    ramped, through = models.Ramped(model, slope), models.Ramped(model, slope, straight_through=True)
    certain = certified.certified_by_ramp(model, x, y, eps=threat_model.eps, slope=slope)

    def seeded() -> torch.Generator:
        return torch.Generator(x.device).manual_seed(resolved["seed"])  # every attack has the same starts

    def square(which: str, network: nn.Module, clean: torch.Tensor) -> torch.Tensor:
        craft = partial(attacks.square, network, **budget, queries=resolved["ramp"]["queries"], generator=seeded())
        return clean & evaluation.survives(network, x, y, craft, **budget, description=f"{run}, {which}, Square")

    pgd = evaluation.evaluate(ramped, x, y, threat_model, generator=seeded(), description=f"{run}, ramp, PGD")
    bpda = evaluation.evaluate(through, x, y, threat_model, generator=seeded(), description=f"{run}, ramp, BPDA")
    robust = {"PGD": pgd.robust, "BPDA": bpda.robust, "Square": square("ramp", ramped, pgd.correct)}
    _check_certificates(run, "certified_error_ramp", certain, {"no attack": pgd.correct, **robust})
    outcomes = {
        "clean_accuracy_ramp": pgd.correct,
        "certified_error_ramp": ~certain,
        **{f"robust_accuracy_ramp_{attack.lower()}": outcome for attack, outcome in robust.items()},
        "robust_accuracy_bare_pgd": evaluated.robust,
        "robust_accuracy_bare_square": square("bare", model, evaluated.correct),
        "moved_by_pgd_ramp": evaluation.moved_by_pgd(ramped, x, y, threat_model, generator=seeded()),
    }
    return _named(name, outcomes)


def _surviving(run, name, resolved, model, x, y, description) -> dict[str, torch.Tensor]:
    """By metric, which images are still classified as their label under an attack against it.

    One metric each of the budgets of a curve, or of the changes that are made to the network's weights before the attack.
    """
    (metric, *_) = metrics = plans.metrics(name).values()
    seeded = {
        "autoattack": partial(attacks.autoattack, seed=resolved["seed"]),
        "square": partial(attacks.square, generator=torch.Generator(x.device).manual_seed(resolved["seed"])),
    }
    for attack, function in seeded.items():
        if attack in resolved:
            craft, eps = partial(function, model, **resolved[attack]), resolved[attack]["eps"]
            return {metric: evaluation.survives(model, x, y, craft, eps=eps, description=description)}
    surrogate, outcomes = plans.of(run).evaluation(name).surrogate, {}
    attacked = material.locked_model(surrogate, x.device) if surrogate else None
    declared = attacks.ThreatModel(**resolved["threat_model"])
    cases = {metric: (model, declared)}
    if "eps" in resolved:
        cases = {f"{metric}_{eps:g}": (model, declared.scaled(eps)) for eps in resolved["eps"]}
    if "changes" in resolved:
        networks = [weights.changed(model, change) for change in resolved["changes"]]
        cases = {own: (network, declared) for own, network in zip(metrics, networks, strict=True)}
    for own, (network, threat_model) in cases.items():
        # Every attack has the same starts.
        generator = torch.Generator(x.device).manual_seed(resolved["seed"])
        craft = partial(attacks.pgd, network if attacked is None else attacked, generator=generator, **threat_model.attack())
        outcomes[own] = evaluation.survives(
            network, x, y, craft, eps=threat_model.eps, bounds=threat_model.bounds, description=f"{description}, {own}"
        )
    return outcomes


# By the key that distinguishes a kind of evaluation from the paper's; the first one present counts.
_KINDS = {"against": _surviving, "certificate": _certified, "ramp": _behind_a_ramp}
