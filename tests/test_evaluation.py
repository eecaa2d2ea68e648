"""The four columns of Tables 2 and 3, against a brute-force evaluation."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from lib import attacks, evaluation, models
from lib.attacks import ThreatModel

WEAK = ThreatModel(eps=0.1, step_size=0.03, num_steps=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def examples(digits):
    """57 digits in float64, every fourth with a wrong label: prediction and label differ."""
    x, y = digits[0][-57:].double(), digits[1][-57:].clone()
    y[::4] = (y[::4] + 1) % 10
    return x, y


@pytest.fixture
def model(trained):
    return copy.deepcopy(trained).double()


@pytest.mark.parametrize(
    "threat_model", [WEAK, ThreatModel(0.3, 0.05, 3, random_start=False, bounds=None)], ids=["boxed", "unboxed"]
)
@pytest.mark.parametrize("engine", attacks.ENGINES)
def test_outcomes_are_those_of_two_full_attacks(model, examples, threat_model, engine):
    """Here all images are attacked twice, `evaluate` attacks only the misclassified ones a second time."""
    x, y = examples
    evaluated = evaluation.evaluate(model, x, y, threat_model, batch_size=20, generator=seeded(), engine=engine)
    generator = seeded()
    correct, robust, kept = [], [], []
    for first in range(0, 57, 20):
        images, labels = x[first : first + 20], y[first : first + 20]
        start = attacks.random_delta(images, threat_model.eps, generator)
        keywords = {**threat_model.attack(), "start": start if threat_model.random_start else torch.zeros_like(start)}
        clean = model(images).argmax(1)
        against_label, against_prediction = (
            model(attacks.pgd(model, images, target, **keywords)).argmax(1) for target in (labels, None)
        )
        correct += (clean == labels).tolist()
        robust += (against_label == labels).tolist()
        kept += (against_prediction == clean).tolist()
    assert evaluated.correct.tolist() == correct
    assert evaluated.robust.tolist() == robust
    assert evaluated.stable.tolist() == kept
    assert 5 < sum(correct) < 52
    assert sum(robust) != sum(kept)
    assert evaluated.metrics() == {
        "clean_accuracy": sum(correct) / 57,
        "robust_accuracy": sum(robust) / 57,
        "robustness_wrt_predictions": sum(kept) / 57,
    }
    assert {name: outcome.tolist() for name, outcome in evaluated.outcomes().items()} == {
        "clean_accuracy": correct,
        "robust_accuracy": robust,
        "robustness_wrt_predictions": kept,
    }


def test_the_last_batch_may_be_smaller_and_batches_do_not_matter(model, examples):
    threat_model = ThreatModel(0.1, 0.03, 4, random_start=False)
    whole, parts = (evaluation.evaluate(model, *examples, threat_model, batch_size=size) for size in (57, 8))
    assert torch.equal(whole.correct, parts.correct)
    assert torch.equal(whole.robust, parts.robust)
    assert torch.equal(whole.stable, parts.stable)


def test_without_a_threat_model_only_the_clean_images_count(trained, digits):
    evaluated = evaluation.evaluate(trained, *digits)
    expected = trained(digits[0]).argmax(1) == digits[1]
    assert torch.equal(evaluated.correct, expected)
    assert evaluated.metrics() == {"clean_accuracy": expected.double().mean().item()}
    assert evaluated.outcomes().keys() == {"clean_accuracy"}
    assert (evaluated.robust_accuracy, evaluated.robustness_wrt_predictions) == (None, None)


def test_an_attack_takes_accuracy_away(trained, digits):
    x, y = digits[0][-200:], digits[1][-200:]
    evaluated = evaluation.evaluate(trained, x, y, WEAK, generator=seeded())
    assert 0 <= evaluated.robust_accuracy < evaluated.clean_accuracy <= 1
    assert evaluated.robust_accuracy <= evaluated.robustness_wrt_predictions < 1
    weaker = evaluation.evaluate(trained, x, y, ThreatModel(0.02, 0.01, 4), generator=seeded())
    assert weaker.robust_accuracy > evaluated.robust_accuracy


def test_no_budget_changes_nothing(trained, digits):
    evaluated = evaluation.evaluate(trained, digits[0][:100], digits[1][:100], ThreatModel(0.0, 0.0, 2))
    assert torch.equal(evaluated.robust, evaluated.correct)
    assert evaluated.robustness_wrt_predictions == 1.0


def test_the_generator_decides(trained, digits):
    x, y = digits[0][-200:], digits[1][-200:]
    threat_model = ThreatModel(0.12, 0.04, 1)
    first, again, other = (evaluation.evaluate(trained, x, y, threat_model, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.robust, again.robust)
    assert torch.equal(first.stable, again.stable)
    assert not torch.equal(first.robust, other.robust)


def test_early_stop_and_restarts_find_more(trained, digits):
    x, y = digits[0][-100:], digits[1][-100:]
    held = [
        evaluation.evaluate(trained, x, y, threat_model, generator=seeded()).robust_accuracy
        for threat_model in (
            ThreatModel(0.1, 0.05, 3),
            ThreatModel(0.1, 0.05, 3, early_stop=True),
            ThreatModel(0.1, 0.05, 3, early_stop=True, restarts=5),
        )
    ]
    assert held[0] >= held[1] > held[2]


class Constant(nn.Module):
    """Always the same answer, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 2.0, 1.0]))

    def forward(self, x):
        return self.logits + 0 * x.flatten(1).sum(1, keepdim=True)


def test_a_constant_model_keeps_its_predictions():
    y = torch.tensor([0, 1, 1, 2, 1])
    evaluated = evaluation.evaluate(Constant(), torch.rand(5, 1, 4, 4), y, WEAK, generator=seeded())
    assert evaluated.metrics() == {"clean_accuracy": 0.6, "robust_accuracy": 0.6, "robustness_wrt_predictions": 1.0}
    assert torch.equal(evaluated.robust, y == 1)


def test_the_model_is_as_before(trained, digits):
    trained.train()
    trained[3].eval()
    before = [module.training for module in trained.modules()]
    evaluation.evaluate(trained, digits[0][:10], digits[1][:10], WEAK)
    assert [module.training for module in trained.modules()] == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("images", "labels"), [(3, 2), (0, 0)])
def test_images_and_labels_must_match(trained, images, labels):
    with pytest.raises(ValueError, match=f"(every image needs one label|are needed), given {images} .*{labels}"):
        evaluation.evaluate(trained, torch.rand(images, 1, 28, 28), torch.zeros(labels, dtype=torch.long))


def test_images_outside_the_bounds(trained, digits):
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
        evaluation.evaluate(trained, digits[0] * 2, digits[1], WEAK)


def test_a_non_finite_loss_names_the_images(trained, digits):
    x, y = digits[0][:50], digits[1][:50]

    class Poisoned(nn.Module):
        def forward(self, z):
            return trained(z) * (math.nan if z[0, 0, 0, 0] > 0.5 else 1)

    x = x.clone()
    x[20, 0, 0, 0] = 1.0
    with pytest.raises(FloatingPointError, match=r"table-2, images 20 to 29: non-finite logits on a batch of 10 images"):
        evaluation.evaluate(Poisoned(), x, y, ThreatModel(0.1, 0.01, 2), batch_size=10, description="table-2")


# --- attacks on a classifier behind a ramp --------------------------------------------------------------------------------


@pytest.fixture
def binary(digits):
    return digits[0][-40:].round(), digits[1][-40:]


def test_pgd_moves_nothing_behind_a_ramp_and_everything_else_where(trained, binary, digits):
    """On binarized images the ramp's gradient is 0 at every pixel; on grey ones, and for BPDA, it is not."""
    threat_model = ThreatModel(eps=0.3, step_size=0.01, num_steps=40)
    ramped, through = models.Ramped(trained, 10.0), models.Ramped(trained, 10.0, straight_through=True)
    assert not evaluation.moved_by_pgd(ramped, *binary, threat_model, generator=seeded(), batch_size=25).any()
    assert evaluation.moved_by_pgd(trained, *binary, threat_model, generator=seeded()).all()
    assert evaluation.moved_by_pgd(through, *binary, threat_model, generator=seeded()).all()
    assert evaluation.moved_by_pgd(ramped, digits[0][-40:], digits[1][-40:], threat_model, generator=seeded()).all()


# --- any attack -------------------------------------------------------------------------------------------------------


def test_square_changes_no_answer_behind_a_ramp_and_many_in_front_of_the_bare_classifier(trained, binary):
    clean, survivors = evaluation.evaluate(trained, *binary).correct, {}
    for which, network in (("bare", trained), ("ramp", models.Ramped(trained, 10.0))):
        craft = partial(attacks.square, network, eps=0.3, queries=60, generator=seeded())
        survivors[which] = evaluation.survives(network, *binary, craft, eps=0.3, batch_size=25)
    assert torch.equal(survivors["ramp"], clean)
    assert (survivors["bare"] & clean).sum() < clean.sum() - 10


def test_survivors_are_those_still_classified_as_their_label(trained, digits):
    x, y = digits[0][-57:], digits[1][-57:]
    batch_sizes = []

    def craft(images, labels):
        batch_sizes.append(len(images))
        return attacks.pgd(trained, images, labels, eps=0.1, step_size=0.03, num_steps=4, start=torch.zeros_like(images))

    survivors = evaluation.survives(trained, x, y, craft, eps=0.1, batch_size=20)
    assert batch_sizes == [20, 20, 17]
    threat_model = ThreatModel(0.1, 0.03, 4, random_start=False)
    assert torch.equal(survivors, evaluation.evaluate(trained, x, y, threat_model, batch_size=20).robust)
    assert 0 < survivors.sum() < 57


@pytest.mark.parametrize(
    ("change", "bounds", "message"),
    [
        (lambda x: x + 0.2, None, "table-2, images 20 to 29: changed by up to 0.2000000, the budget is 0.1000000"),
        (lambda x: x * float("nan"), None, "images 20 to 29: changed by up to nan"),
        (lambda x: x + 0.05, (0.0, 1.0), r"images 20 to 29: values from .* to 1.05, the bounds are \(0.0, 1.0\)"),
    ],
    ids=["budget", "nan", "box"],
)
def test_an_attack_that_breaks_its_budget_is_no_result(trained, digits, change, bounds, message):
    x, y = digits[0][:40].clone(), digits[1][:40]
    x[20, 0, 0, 0] = 1.0

    def craft(images, _):
        return change(images) if images[0, 0, 0, 0] == 1 else images

    with pytest.raises(ArithmeticError, match=message):
        evaluation.survives(trained, x, y, craft, eps=0.1, bounds=bounds, batch_size=10, description="table-2")


def test_rounding_is_no_breach(trained, digits):
    x, y = digits[0][:5].clamp(0.2, 0.8), digits[1][:5]
    assert len(evaluation.survives(trained, x, y, lambda images, _: images + (0.1 + 1e-7), eps=0.1)) == 5
