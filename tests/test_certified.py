"""Certificates: sound against attack, exact where the answer is known, and refused where they would mean nothing."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

from lib import attacks, certified, evaluation, experiments, grid, models, results, training

SETTINGS = {"optimizer": "adam", "lr": 0.01, "schedule": "constant", "weight_decay": 0.0, "steps": 12, "batch_size": 8}
LOSS = {"eps": 0.05, "first_eps": 0.01, "warmup": 0.5, "proj": 3}


def convnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.small_convnet(1 / 8, classes=2, image_size=8)


@pytest.fixture
def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """36 dark and bright images of two classes, learnt at once."""
    y = torch.arange(36) % 2
    noise = torch.rand(36, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return (noise + y.view(-1, 1, 1, 1)) / 2, y


@pytest.fixture(autouse=True)
def any_outcome(monkeypatch):
    """A training that ends at chance has not failed: a few steps may lead no farther."""
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)


def margin(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Logit y minus the largest other."""
    logits = model(x)
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["boxed", "unboxed"])
@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
def test_no_attack_goes_below_the_bound(seed, bounds, trained, examples):
    x, y = examples
    model = convnet(seed)
    if trained:
        training.train(model, x, y, **SETTINGS, seed=seed, robust_loss=certified.training_loss(**LOSS))
    eps = 0.1
    lower = certified.margins(model, x, y, eps=eps, bounds=bounds)
    found = attacks.pgd(model, x, y, eps=eps, step_size=0.02, num_steps=20, bounds=bounds)
    with torch.no_grad():
        assert (lower <= margin(model, found, y) + 1e-5).all()
        assert (lower <= margin(model, x, y) + 1e-5).all()


def test_of_a_linear_network_the_bound_is_the_minimum(examples):
    """w·x + b over a box is lowest at a corner: at each pixel the end that the sign of w says."""
    x, y = examples
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    difference = (model[1].weight[y] - model[1].weight[1 - y]).view_as(x).detach()
    for bounds in ((0.0, 1.0), None):
        worst = x - 0.2 * difference.sign()
        worst = worst if bounds is None else worst.clamp(*bounds)
        with torch.no_grad():
            expected = margin(model, worst, y)
        assert torch.allclose(certified.margins(model, x, y, eps=0.2, bounds=bounds), expected, atol=1e-5)


def test_at_eps_0_the_bound_is_the_margin(examples):
    model = convnet()
    with torch.no_grad():
        expected = margin(model, *examples)
    assert torch.allclose(certified.margins(model, *examples, eps=0.0), expected, atol=1e-5)


def test_rounding_stays_below_what_a_certificate_allows(examples):
    x, y = examples
    model = convnet()
    single = certified.margins(model, x, y, eps=0.1)
    double = certified.margins(model.double(), x.double(), y, eps=0.1)
    assert (single - double).abs().max() < certified.ROUNDING / 10


def test_a_bound_that_is_no_number_certifies_nothing():
    assert certified.certified(torch.tensor([1.0, 0.0, -1.0, torch.nan])).tolist() == [True, False, False, False]


# --- training ---------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("proj", [3, None])
def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(proj, examples, tmp_path):
    loss = certified.training_loss(**{**LOSS, "proj": proj})

    def dies(model, x, y, share, generator):
        if share >= 7 / SETTINGS["steps"]:
            raise Killed
        return loss(model, x, y, share, generator)

    whole, parts = convnet(), convnet()
    done = training.train(whole, *examples, **SETTINGS, seed=5, robust_loss=loss)
    train = partial(training.train, **SETTINGS, seed=5, checkpoint=tmp_path / "training.safetensors", every=0.0)
    with pytest.raises(Killed):
        train(parts, *examples, robust_loss=dies)
    torch.rand(9)  # the global state has moved on: the projections do not come from it
    other = convnet(seed=1)
    resumed = train(other, *examples, robust_loss=loss)
    assert resumed.curve == done.curve
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_training_leaves_the_global_random_state_alone(examples):
    before = torch.random.get_rng_state()
    training.train(convnet(), *examples, **SETTINGS, seed=5, robust_loss=certified.training_loss(**LOSS))
    assert torch.equal(before, torch.random.get_rng_state())


def test_eps_grows_over_the_warm_up(examples, monkeypatch):
    seen = []
    monkeypatch.setattr(certified, "_margins", lambda m, x, y, eps, *_: (seen.append(eps), m(x))[1])
    loss = certified.training_loss(eps=0.3, first_eps=0.01, warmup=0.5, proj=None)
    for share in (0.0, 0.25, 0.5, 1.0):
        loss(convnet(), *examples, share, torch.Generator())
    assert seen == pytest.approx([0.01, 0.155, 0.3, 0.3])


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [*grid.runs("section-2.2", "smoke"), *grid.runs("section-2.2-cifar10", "smoke")], ids=str)
def test_a_record_has_no_less_certified_error_than_pgd_error(run, monkeypatch):
    monkeypatch.setitem(grid._spec()["scales"]["smoke"]["evaluations"]["certified"], "test_size", 20)
    monkeypatch.setitem(grid._spec()["scales"]["smoke"]["models"]["small_convnet"], "epochs", 1)
    assert experiments.complete([run], "cpu") == 1
    record = results.read(run, "certified")
    for split, metrics in record["metrics"].items():
        size = record["sizes"][split]
        outcomes = {name: results.unpack(text, size) for name, text in record["outcomes"][split].items()}
        for metric in grid.evaluation_settings(run, "certified")["certificate"]:
            assert metrics[metric] >= 1 - metrics["robust_accuracy"]
            assert metrics[metric] >= 1 - metrics["clean_accuracy"]
            assert metrics[metric] == outcomes[metric].double().mean().item()
            assert not (~outcomes[metric] & ~outcomes["robust_accuracy"]).any()


def test_a_broken_certificate_is_not_recorded(monkeypatch, examples):
    """An attack that succeeds on an image with a certificate says that the certifier is wrong."""
    (run, *_) = grid.runs("section-2.2", "smoke")
    monkeypatch.setattr(certified, "margins", lambda model, x, *_, **__: torch.ones(len(x)))
    found = evaluation.Evaluation(*(torch.tensor([True, False]) for _ in range(3)))
    threat_model = attacks.ThreatModel(0.1, 0.01, 1)
    with pytest.raises(ArithmeticError, match=r"certified images \[1\]; nothing recorded"):
        experiments._certify(run, convnet(), *(t[:2] for t in examples), found, threat_model, ["certified_error"])


# --- errors -----------------------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    name: str
    keywords: dict
    message: str


BAD = [
    Bad("eps-negative", {"eps": -0.1}, "eps must be from 0 to 1, given -0.1"),
    Bad("eps-large", {"eps": 1.5}, "eps must be from 0 to 1, given 1.5"),
    Bad("eps-nan", {"eps": float("nan")}, "eps must be from 0 to 1, given nan"),
    Bad("bounds", {"eps": 0.1, "bounds": (1.0, 0.0)}, "bounds must be"),
    Bad("outside", {"eps": 0.1, "bounds": (0.0, 0.1)}, r"images must lie in \[0, 0.1\], given values from"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input(bad, examples):
    with pytest.raises(ValueError, match=bad.message):
        certified.margins(convnet(), *examples, **bad.keywords)


def test_images_and_labels_must_be_as_many(examples, unchecked):
    with pytest.raises(ValueError, match="must be as many, and at least one, given 36 and 3"):
        certified.margins(convnet(), examples[0], examples[1][:3], eps=0.1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)], "does not know layer 1, MaxPool2d; allowed: Conv2d, Linear, ReLU, Flatten"),
        ([nn.BatchNorm2d(1)], "does not know layer 0, BatchNorm2d"),
        ([nn.Conv2d(1, 2, 3, dilation=2)], "undilated"),
        ([nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")], "zero-padded"),
        ([nn.Conv2d(1, 2, 3, padding="same")], "by numbers"),
        ([nn.Flatten(2)], r"Flatten\(1, -1\) only"),
    ],
)
def test_a_layer_that_the_certifier_does_not_know(layers, message, examples):
    with pytest.raises(ValueError, match=message):
        certified.margins(nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, 2)), *examples, eps=0.1)


def test_a_network_that_is_no_sequence(examples):
    with pytest.raises(ValueError, match="takes an nn.Sequential that ends in a Linear layer, given WideResNet"):
        certified.margins(models.wide_resnet28(1 / 16), *examples, eps=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 1.5}, "0 ≤ first_eps ≤ eps ≤ 1"),
        ({"first_eps": 0.1}, "0 ≤ first_eps ≤ eps ≤ 1, given 0.1 and 0.05"),
        ({"warmup": 2}, "warmup must be from 0 to 1, given 2"),
        ({"proj": 0}, "proj must be ≥ 1, or None for exact bounds, given 0"),
    ],
)
def test_bad_settings_of_the_loss(change, message):
    with pytest.raises(ValueError, match=message):
        certified.training_loss(**{**LOSS, **change})


def test_one_adversary_at_a_time(examples):
    attack = {"eps": 0.1, "step_size": 0.1, "num_steps": 1}
    with pytest.raises(ValueError, match="attack and robust_loss exclude each other"):
        training.train(convnet(), *examples, **SETTINGS, seed=0, attack=attack, robust_loss=certified.training_loss(**LOSS))
