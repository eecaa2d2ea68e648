"""Calls the attacks of other libraries: AdverTorch's PGD, the Adversarial Robustness Toolbox's Square, and AutoAttack."""

import importlib
import logging
import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from lib.base import checks
from lib.fast import forms
from lib.fast.surroundings import classes_of, frozen, gradient_context, numpy_seeded


def import_advertorch():
    """The module `advertorch.attacks`, importable on torch ≥ 1.9 too.

    AdverTorch 0.2.3 imports `zero_gradients` from `torch.autograd.gradcheck`, which torch removed. The module has to be
    fetched by name, since the attribute `torch.autograd.gradcheck` is a function.
    """
    gradcheck = importlib.import_module("torch.autograd.gradcheck")
    if not hasattr(gradcheck, "zero_gradients"):

        def zero_gradients(x: Tensor) -> None:
            if x.grad is not None:
                x.grad.detach_().zero_()

        gradcheck.zero_gradients = zero_gradients
    return importlib.import_module("advertorch.attacks")


def advertorch(model, x, y, start, eps, step_size, num_steps, bounds) -> Tensor:
    """What `LinfPGDAttack.perturb` gives from the start δ₀ = `start`."""
    attacks = import_advertorch()
    iterative = importlib.import_module("advertorch.attacks.iterative_projected_gradient")
    low, high = bounds if bounds is not None else (-math.inf, math.inf)
    attack = attacks.LinfPGDAttack(
        model, nn.CrossEntropyLoss(reduction="sum"), float(eps), num_steps, float(step_size), clip_min=low, clip_max=high
    )
    # What LinfPGDAttack.perturb does after drawing δ₀; it draws from the global random state, we from the generator.
    delta = (x + start.clamp(-eps, eps)).clamp(low, high) - x
    return iterative.perturb_iterative(
        x,
        y,
        attack.predict,
        attack.nb_iter,
        attack.eps,
        attack.eps_iter,
        attack.loss_fn,
        delta_init=delta,
        clip_min=low,
        clip_max=high,
    ).detach()


def current(device: torch.device) -> AbstractContextManager:
    """A block in which `device`, if it is a GPU, is the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def square(model, x, y, *, eps, queries, bounds, generator) -> Tensor:
    """The toolbox's `SquareAttack` on one batch; its arguments are those of `attacks.square`, checked."""
    logging.getLogger("art").setLevel(logging.WARNING)  # it would print its folder, and the layers it has counted
    # An import of seconds, which nothing else here needs.
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    seed = int(torch.randint(2**32, (), generator=generator, device=x.device))
    # The toolbox moves the model to the current GPU, whichever holds it.
    with current(x.device), gradient_context(x), frozen(model), numpy_seeded(seed), torch.random.fork_rng(devices=[]):
        classes = classes_of(model, x, y)
        checks.labels(y, x, classes)
        classifier = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=tuple(bounds),
            device_type="gpu" if x.is_cuda else "cpu",
        )  # fmt: skip
        attack = SquareAttack(classifier, eps=eps, max_iter=queries, batch_size=len(x), verbose=False)
        adversarial = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(adversarial).to(x)


def autoattack(model, x, y, *, eps, seed, iterations, targets, queries) -> Tensor:
    """pyautoattack's standard version on one batch; its arguments are those of `attacks.autoattack`, checked."""
    from pyautoattack import AutoAttack

    devices = [x.device] if x.is_cuda else []
    with gradient_context(x), frozen(model), torch.random.fork_rng(devices):
        classes = classes_of(model, x, y)
        checks.labels(y, x, classes)
        if classes < 4:
            raise ValueError(f"AutoAttack's difference of logits ratio needs at least 4 classes, given {classes}")
        targets = min(targets, classes - 1)
        attack = AutoAttack(forms.program_of(model, x) or forms.specialized(model, x), eps=eps, seed=seed, device=x.device)
        for part in (attack.apgd, attack.apgd_targeted, attack.fab):
            part.n_iter = iterations
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
        attack.square.n_queries = queries
        adversarial, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return adversarial
