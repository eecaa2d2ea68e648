"""Clean accuracy, robust accuracy and robustness w.r.t. predictions of a trained model (Section 3.2), per example."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from lib import attacks
from lib.attacks import ThreatModel
from lib.base import checks

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]
Outcomes = Bool[Tensor, " n"]


@dataclass(frozen=True)
class Evaluation:
    """The outcome of each example; the accuracies are shares in [0, 1]. Without an attack the last two are None."""

    correct: Outcomes  #: the clean image is classified as its label
    robust: Outcomes | None  #: so is the image attacked against its label
    stable: Outcomes | None  #: the image attacked against the clean prediction keeps that prediction

    @property
    def clean_accuracy(self) -> float:
        """The share of clean images classified as their label."""
        return _share(self.correct)

    @property
    def robust_accuracy(self) -> float | None:
        """The share still classified as their label under PGD against it."""
        return _share(self.robust)

    @property
    def robustness_wrt_predictions(self) -> float | None:
        """The share whose clean prediction survives PGD against that prediction."""
        return _share(self.stable)

    def metrics(self) -> dict[str, float]:
        """The accuracies that were evaluated, by name."""
        return {name: _share(outcome) for name, outcome in self.outcomes().items()}

    def outcomes(self) -> dict[str, Outcomes]:
        """The outcome of each example, by the metric that averages it."""
        pairs = zip(
            ("clean_accuracy", "robust_accuracy", "robustness_wrt_predictions"),
            (self.correct, self.robust, self.stable),
            strict=True,
        )
        return {name: outcome for name, outcome in pairs if outcome is not None}


def _share(outcome: Outcomes | None) -> float | None:
    return None if outcome is None else outcome.double().mean().item()


def batches(x: Images, y: Labels, size: int, description: str | None = None) -> Iterator[tuple[Images, Labels, str, tqdm]]:
    """(images, labels, their name in messages, the progress bar) of each batch; no bar without a `description`."""
    options = {"disable": True} if description is None else {}  # False would overrule TQDM_DISABLE, by which workers are silent
    with tqdm(total=len(x), desc=description, unit="image", mininterval=1.0, **options) as bar:
        for first in range(0, len(x), size):
            images, labels = x[first : first + size], y[first : first + size]
            yield images, labels, f"{description}, images {first} to {first + len(images) - 1}", bar
            bar.update(len(images))


def evaluate(
    model: nn.Module,
    x: Images,
    y: Labels,
    threat_model: ThreatModel | None = None,
    *,
    batch_size: int = 500,
    generator: torch.Generator | None = None,
    engine: str = "lib",
    description: str = "evaluation",
) -> Evaluation:
    """Evaluate `model` on images in [0, 1] and labels on its device, in float32 and eval mode.

    - Clean accuracy: the share of images classified as their label.
    - Robust accuracy: the share still classified so after PGD against the label.
    - Robustness w.r.t. predictions: the share whose clean prediction survives PGD against that prediction. Given the
      same δ₀ the two attacks are the same where prediction and label agree, so only the other images are attacked again.

    `threat_model` None evaluates the clean images alone. `generator`, on the model's device, draws the attacks' starts.
    Raises what `attacks.pgd` raises; a non-finite loss names the images.
    """
    if not isinstance(threat_model, ThreatModel | None):
        raise ValueError(f"threat_model must be an attacks.ThreatModel or None, given a {type(threat_model).__name__}")
    checks.whole_number("batch_size", batch_size, 1)
    _check(x, y, threat_model and threat_model.bounds)
    correct, robust, stable = [], [], []
    with attacks.frozen(model):
        for images, labels, batch_name, bar in batches(x, y, batch_size, description):
            images = images.contiguous(memory_format=torch.channels_last)
            try:
                predictions = _predict(model, images, labels)
                correct.append(predictions == labels)
                if threat_model is not None:
                    outcome = _attack_outcomes(model, images, labels, predictions, threat_model, generator, engine)
            except FloatingPointError as error:
                raise FloatingPointError(f"{batch_name}: {error}") from None
            if threat_model is not None:
                robust.append(outcome[0])
                stable.append(outcome[1])
                bar.set_postfix(robust=f"{torch.cat(robust).double().mean():.1%}", refresh=False)
    if threat_model is None:
        return Evaluation(torch.cat(correct).cpu(), None, None)
    return Evaluation(torch.cat(correct).cpu(), torch.cat(robust).cpu(), torch.cat(stable).cpu())


def _check(x: Images, y: Labels, bounds: Sequence[float] | None) -> None:
    checks.images(x, bounds or (0.0, 1.0))  # where `bounds` is None the attack may leave the box, not the images
    checks.labels(y, x)
    if len(x) == 0:
        raise ValueError("at least one image and label are needed, given 0 and 0")


def _predict(model: nn.Module, x: Images, y: Labels | None = None) -> Labels:
    """The predicted classes. FloatingPointError for logits that are not finite, ValueError for labels `y` beyond them."""
    with torch.no_grad():
        logits = model(x)
    checks.logits(logits, len(x))
    if not logits.isfinite().all():
        bad = (~logits.isfinite().all(1)).nonzero().flatten().tolist()
        raise FloatingPointError(f"non-finite logits on a batch of {len(x)} images: images {bad[:8]} of the batch")
    if y is not None:
        checks.labels(y, x, logits.shape[1])
    return logits.argmax(1)


def _attack_outcomes(model, x, y, predictions, threat_model, generator, engine) -> tuple[Tensor, Tensor]:
    """(robust, stable) of one batch."""
    start = attacks.random_delta(x, threat_model.eps, generator) if threat_model.random_start else torch.zeros_like(x)
    keywords = {**threat_model.attack(), "engine": engine, "generator": generator}
    predictions_attacked = _predict(model, attacks.pgd(model, x, y, start=start, **keywords))
    robust, stable = predictions_attacked == y, predictions_attacked == predictions
    misclassified = (predictions != y).nonzero().flatten()
    if len(misclassified):
        adversarial = attacks.pgd(model, x[misclassified], predictions[misclassified], start=start[misclassified], **keywords)
        stable[misclassified] = _predict(model, adversarial) == predictions[misclassified]
    return robust, stable


def moved_by_pgd(
    model: nn.Module,
    x: Images,
    y: Labels,
    threat_model: ThreatModel,
    *,
    batch_size: int = 500,
    generator: torch.Generator | None = None,
) -> Outcomes:
    """Whether PGD's first step changes any pixel of each image's start. Where the gradient is 0, no step changes a pixel: the
    attack is then only its random start, and its failure proves nothing.
    """
    _check(x, y, threat_model.bounds)
    outcomes = []
    for images, labels, *_ in batches(x, y, batch_size):
        start = attacks.random_delta(images, threat_model.eps, generator)
        keywords = {**threat_model.attack(), "start": start}
        before, after = (attacks.pgd(model, images, labels, **{**keywords, "num_steps": steps}) for steps in (0, 1))
        outcomes.append((after != before).flatten(1).any(1))
    return torch.cat(outcomes).cpu()


def survives(
    model: nn.Module,
    x: Images,
    y: Labels,
    craft: Callable[[Images, Labels], Images],
    *,
    eps: float,
    bounds: Sequence[float] | None = (0.0, 1.0),
    batch_size: int = 500,
    description: str = "attack",
) -> Outcomes:
    """Whether each image is still classified as its label once `craft(images, labels)` has changed it: any attack.

    `model`, `x` and `y` as in `evaluate`. Raises ArithmeticError for an attack that goes beyond `eps` or leaves `bounds` by
    more than a rounding error (1e-6), and FloatingPointError, naming the images, for a non-finite loss.
    """
    _check(x, y, bounds)
    outcomes = []
    with attacks.frozen(model):
        for images, labels, batch_name, _ in batches(x, y, batch_size, description):
            try:
                adversarial = craft(images, labels).contiguous(memory_format=torch.channels_last)
            except FloatingPointError as error:
                raise FloatingPointError(f"{batch_name}: {error}") from None
            farthest = (adversarial - images).abs().max().item()
            low, high = adversarial.min().item(), adversarial.max().item()
            if not farthest <= eps + 1e-6:
                raise ArithmeticError(f"{batch_name}: changed by up to {farthest:.7f}, the budget is {eps:.7f}")
            if bounds is not None and not bounds[0] - 1e-6 <= low <= high <= bounds[1] + 1e-6:
                raise ArithmeticError(f"{batch_name}: values from {low:g} to {high:g}, the bounds are {bounds}")
            outcomes.append(_predict(model, adversarial, labels) == labels)
    return torch.cat(outcomes).cpu()
