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
    if not {"threat_model", "autoattack"}.isdisjoint(resolved):
        content["engine"] = attacks.engine_of(model, x[:1])
    seconds = time.monotonic() - began
    records.write(run, name, content, seconds=seconds, device=device, source=", ".join(sorted(sources)))


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
    slope, queries, seed = resolved["ramp"]["slope"], resolved["ramp"]["queries"], resolved["seed"]
    bare, ramped = model, models.Ramped(model, slope)
    certain = certified.certified_by_ramp(model, x, y, eps=threat_model.eps, slope=slope)

    def keywords(attack: str) -> dict:
        # Every attack has the same starts.
        return {"generator": torch.Generator(x.device).manual_seed(seed), "description": f"{run}, {attack}"}

    pgd = evaluation.evaluate(ramped, x, y, threat_model, **keywords("ramp, PGD"))
    bpda = evaluation.evaluate(models.Ramped(model, slope, straight_through=True), x, y, threat_model, **keywords("ramp, BPDA"))
    square = {
        which: evaluation.robust_to_square(network, x, y, threat_model, queries=queries, **keywords(f"{which}, Square"))
        for which, network in (("bare", bare), ("ramp", ramped))
    }
    robust = {"PGD": pgd.robust, "BPDA": bpda.robust, "Square": square["ramp"]}
    _check_certificates(run, "certified_error_ramp", certain, {"no attack": pgd.correct, **robust})
    outcomes = {
        "clean_accuracy_ramp": pgd.correct,
        "certified_error_ramp": ~certain,
        **{f"robust_accuracy_ramp_{attack.lower()}": outcome for attack, outcome in robust.items()},
        "robust_accuracy_bare_pgd": evaluated.robust,
        "robust_accuracy_bare_square": square["bare"],
        "moved_by_pgd_ramp": evaluation.moved_by_pgd(ramped, x, y, threat_model, generator=keywords("")["generator"]),
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
    cases = {metric: (model, resolved["threat_model"])}
    if "eps" in resolved:
        cases = {f"{metric}_{eps:g}": (model, _scaled(resolved["threat_model"], eps)) for eps in resolved["eps"]}
    if "changes" in resolved:
        networks = [weights.changed(model, change) for change in resolved["changes"]]
        cases = {own: (network, resolved["threat_model"]) for own, network in zip(metrics, networks, strict=True)}
    for own, (network, settings) in cases.items():
        threat_model = attacks.ThreatModel(**settings)
        # Every attack has the same starts.
        generator = torch.Generator(x.device).manual_seed(resolved["seed"])
        craft = partial(attacks.pgd, network if attacked is None else attacked, generator=generator, **threat_model.attack())
        outcomes[own] = evaluation.survives(
            network, x, y, craft, eps=threat_model.eps, bounds=threat_model.bounds, description=f"{description}, {own}"
        )
    return outcomes


# By the key that distinguishes a kind of evaluation from the paper's; the first one present counts.
_KINDS = {"against": _surviving, "certificate": _certified, "ramp": _behind_a_ramp}


def _scaled(threat_model: dict, eps: float) -> dict:
    """The threat model with another budget, and its step in proportion; without a budget, without steps."""
    step_size = threat_model["step_size"] * eps / threat_model["eps"]
    return {**threat_model, "eps": eps, "step_size": step_size, "num_steps": threat_model["num_steps"] if eps else 0}
