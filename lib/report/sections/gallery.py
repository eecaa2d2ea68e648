"""The gallery: one test image of each variant under attack, and the networks' answers with their confidence; a slider sets ε.

The attacks run when the page is built, on the weights that are kept beside the records and on the data of this machine.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from IPython.display import HTML
from torch import Tensor, nn

from lib import attacks, data
from lib.report.exhibit import Page, Source, exhibit
from lib.report.sections.pictures import strip
from lib.report.words import budget_label, set_name, transform_label
from lib.run import material
from lib.store import plans, results, weights
from lib.store.grid import Run

_CPU = torch.device("cpu")
_CANDIDATES = 50  # test images, of which one is shown


@dataclass(frozen=True)
class Answer:
    """A network's answer to an image: the class and its probability; `image` and `perturbation` H×W×C."""

    predicted: int
    probability: float
    image: np.ndarray
    perturbation: np.ndarray


@dataclass(frozen=True)
class Gallery:
    """Answers by budget, variant and training, of an image of the class `label`; and in words what is shown."""

    label: int
    answers: dict[float, dict[str, dict[str, Answer]]]
    note: str


def adversarial_gallery(gallery: Gallery | str, classes: Sequence[str], start: float, *, name: str) -> HTML:
    """For each variant the image, the perturbation, the attacked image and the networks' answers; one frame a budget.

    `gallery`: what was attacked, or a sentence that says why nothing is shown; `classes`: their names; `start`: the budget
    that is shown first; `name`: an identifier, unique on the page.
    """
    if isinstance(gallery, str):
        return HTML(f'<p class="levels-missing">{html.escape(gallery)}</p>')
    frames = [_frame(gallery, eps, classes) for eps in gallery.answers]
    place = list(gallery.answers).index(start)
    return HTML(
        f'<div class="levels gallery" id="levels-{html.escape(name)}" data-name="Budget of the attack, ε" data-start="{place}">'
        f'<ul class="levels-frames">{"".join(frames)}</ul><p class="levels-note">{html.escape(gallery.note)}</p></div>'
    )


def _frame(gallery: Gallery, eps: float, classes: Sequence[str]) -> str:
    cards, wrong, total = [], 0, 0
    clean = next(iter(gallery.answers.values()))
    for variant, answers in gallery.answers[eps].items():
        heading = transform_label(variant)
        rows = ""
        for kind, answer in answers.items():
            before = clean[variant][kind]
            fooled = answer.predicted != gallery.label
            wrong, total = wrong + fooled, total + 1
            tiles = np.stack([before.image, _visible(answer.perturbation, eps), answer.image])
            alt = f"{heading}, {kind} training: the image, the perturbation at ε = {budget_label(eps)}, and the attacked image"
            rows += (
                f"{strip(tiles, alt)}<p><b>{kind}</b>: {_answer_text(before, classes)} → "
                f'<span class="{"gallery-wrong" if fooled else "gallery-right"}">{"✗" if fooled else "✓"} '
                f"{_answer_text(answer, classes)}</span></p>"
            )
        cards.append(f'<div class="gallery-card"><b>{html.escape(heading)}</b>{rows}</div>')
    budget = f"ε = {budget_label(eps)}"
    caption = f"{budget}: {wrong} of {total} networks {'is' if wrong == 1 else 'are'} wrong on the attacked image"
    return (
        f'<li data-x="0" data-label="{budget}" data-said="{html.escape(caption)}"><strong>{html.escape(caption)}</strong>'
        f'<div class="gallery-cards">{"".join(cards)}</div></li>'
    )


def _answer_text(answer: Answer, classes: Sequence[str]) -> str:
    percent = 100 * answer.probability
    return f"{html.escape(classes[answer.predicted])} ({'>99.9' if percent > 99.9 else f'{percent:.1f}'}%)"


def _visible(perturbation: np.ndarray, eps: float) -> np.ndarray:
    """Middle grey where nothing changes, white and black at plus and minus eps."""
    return np.clip(0.5 + perturbation / (2 * eps), 0, 1) if eps else np.full_like(perturbation, 0.5)


def _runs_with_weights(name: str, scale: str, training: str) -> dict[str, Run]:
    """Of an exhibit's runs those of a training whose weights are kept, by variant."""
    runs = [run for run in results.choose(name, scale) if isinstance(run, Run) and run.training == training]
    return {run.transform: run for run in runs if weights.path(run).exists()}


def attacked_gallery(
    name: str, scale: str, variants: Sequence[str], budgets: Sequence[float], *, standard: str | None = None
) -> Gallery | str:
    """The gallery of an exhibit's variants at the budgets, the first of which is 0; or a sentence that says what is missing.

    The image is the first test image that every network classifies right and on which some PGD-trained networks fall under the
    paper's attack while others stand; where there is none, the first that every network classifies right. `standard`: the
    exhibit of the standardly trained networks.
    """
    runs = _runs_with_weights(name, scale, "pgd")
    runs = {variant: {"PGD": runs[variant]} for variant in variants if variant in runs}
    clean = _runs_with_weights(standard, scale, "standard") if standard and runs else {}
    runs = {variant: {"standard": clean[variant], **kinds} if variant in clean else kinds for variant, kinds in runs.items()}
    if not runs:
        return f"Not shown: no weights of {name} are kept at this scale. Weights are kept at scale laptop."
    first = next(iter(runs.values()))["PGD"]
    source = plans.of(first).settings["data"]["source"]
    try:
        data.at_hand(source)
    except data.DataError:
        return f"Not shown: these networks are trained on {set_name(first.dataset)}, whose images are not on this machine."
    images = {variant: material.images_of(kinds["PGD"], "test", _CANDIDATES, _CPU) for variant, kinds in runs.items()}
    networks = {variant: {kind: weights.load(run) for kind, run in kinds.items()} for variant, kinds in runs.items()}
    threat_model = plans.of(first).evaluation("pgd").settings["threat_model"]
    y = next(iter(images.values()))[1]
    chosen = _chosen(images, networks, y, threat_model)
    answers = {
        eps: {
            variant: {
                kind: _answer(model, images[variant][0][chosen, None], y[chosen, None], eps, threat_model)
                for kind, model in kinds.items()
            }
            for variant, kinds in networks.items()
        }
        for eps in budgets
    }
    notes = [
        f"Images: {images[first.transform][2]}, test split",
        f"PGD-trained: kept weights of scale {first.scale}, seed {first.seed}",
    ]
    clean_runs = [run for kinds in runs.values() for kind, run in kinds.items() if kind == "standard"]
    notes += (
        [
            f"standard: kept weights, recipe {clean_runs[0].recipe}, "
            f"{plans.of(clean_runs[0]).settings['training']['steps']:,} steps"
        ]
        if clean_runs
        else ["standard: not shown, no weights of standard training are kept"]
    )
    notes.append(f"attack: PGD, {threat_model['num_steps']} steps against the label, the step in proportion to ε")
    return Gallery(int(y[chosen]), answers, " · ".join(notes))


def _attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, threat_model: dict) -> Tensor:
    """`x` attacked as the paper does, the step in proportion to eps; unchanged where eps is 0."""
    attack = attacks.ThreatModel(**threat_model).scaled(eps).attack()
    return attacks.pgd(model, x, y, generator=torch.Generator().manual_seed(0), **attack)


def _answer(model: nn.Module, x: Tensor, y: Tensor, eps: float, threat_model: dict) -> Answer:
    after = _attack(model, x, y, eps, threat_model)
    with torch.no_grad():
        probability, predicted = model(after).softmax(1).max(1)
    image, perturbation = (tensor[0].permute(1, 2, 0).numpy() for tensor in (after, after - x))
    return Answer(int(predicted), float(probability), image, perturbation)


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x).argmax(1) == y


def _chosen(images: dict, networks: dict, y: Tensor, threat_model: dict) -> int:
    """The place of the image that is shown, see `attacked_gallery`."""
    right = torch.stack([_right(model, images[v][0], y) for v, kinds in networks.items() for model in kinds.values()]).all(0)
    stands = torch.stack([
        _right(kinds["PGD"], _attack(kinds["PGD"], images[v][0], y, threat_model["eps"], threat_model), y)
        for v, kinds in networks.items()
    ])  # fmt: skip
    divides = right & stands.any(0) & ~stands.all(0)
    return int((2 * divides.int() + right.int()).argmax())


def _gallery(
    name: str, budgets: Sequence[float], variants: Sequence[str], classes: Sequence[str], start: float, *,
    standard: str | None = None,
) -> None:  # fmt: skip
    read: Callable[[Page], object] = lambda page: attacked_gallery(  # noqa: E731
        name, page.scale_of(name), variants, budgets, standard=standard
    )
    source = Source(read, (name, *[standard] * bool(standard)), has_badge=False)
    exhibit(f"gallery-{name}", adversarial_gallery, source, classes, start, name=f"gallery-{name}")


_gallery(
    "table-2", (0.0, 0.1, 0.2, 0.3, 0.4), ("binarize", "original", "smooth-3", "smooth-5", "smooth-8"), "0123456789", 0.3,
    standard="gallery-mnist",
)  # fmt: skip
_gallery(
    "table-3", tuple(n / 255 for n in (0, 2, 4, 8, 16)),
    ("original", "saturate-4", "saturate-8", "saturate-16", "saturate-inf"),
    data.CIFAR10_CLASSES, 8 / 255, standard="gallery-cifar10",
)  # fmt: skip
