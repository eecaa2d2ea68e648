"""PGD against AdverTorch's own attack, and its invariants."""

import copy
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import attacks, data, models
from lib.fast import adapters, forms

MNIST = {"eps": 0.3, "step_size": 0.01, "num_steps": 40}
CIFAR10 = {"eps": 8 / 255, "step_size": 2 / 255, "num_steps": 10}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def wide_resnet():
    """A narrow WRN-28 in float64 whose batch norms have seen a batch, and four images."""
    x = data.load("colour-patches", "test").batch()[::125].double()
    torch.manual_seed(0)
    model = models.wide_resnet28(0.25).double()
    model(x)
    return model.eval(), x, torch.tensor([3, 1, 4, 1])


def without_ties(x: torch.Tensor) -> torch.Tensor:
    """Images whose background is not one number: where the four pixels of a pooling window tie, rounding decides which wins."""
    return 0.98 * x + 0.02 * torch.rand(x.shape, generator=seeded(7))


class Case(NamedTuple):
    network: str
    settings: dict
    bounds: tuple[float, float] | None
    target: str  # the label, or the model's own prediction


CASES = [
    Case(network, settings, bounds, target)
    for network, settings in (("lenet5", MNIST), ("wide_resnet28", CIFAR10))
    for bounds in ((0.0, 1.0), None)
    for target in ("label", "prediction")
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.network}-{'boxed' if c.bounds else 'unboxed'}-{c.target}")
def test_same_iterates_as_advertorch_from_the_same_start(case, trained, digits, wide_resnet):
    """AdverTorch draws δ₀ from the global generator: seeded alike, its own `rand_init_delta` tells it beforehand."""
    advertorch = adapters.import_advertorch()
    from advertorch.attacks.utils import rand_init_delta

    if case.network == "lenet5":
        model, x = copy.deepcopy(trained).double(), digits[0][-8:].double()
        y = (digits[1][-8:] + torch.arange(8) % 2) % 10  # half of the labels are wrong: they are not the predictions
    else:
        model, x, y = wide_resnet
    y = y if case.target == "label" else None
    eps, step_size, num_steps = (case.settings[name] for name in ("eps", "step_size", "num_steps"))
    low, high = case.bounds or (-math.inf, math.inf)

    theirs = advertorch.LinfPGDAttack(
        copy.deepcopy(model), nn.CrossEntropyLoss(reduction="sum"), eps, num_steps, step_size, clip_min=low, clip_max=high
    )
    torch.manual_seed(7)
    start = rand_init_delta(torch.zeros_like(x), x, np.inf, eps, low, high)
    torch.manual_seed(7)
    expected = theirs.perturb(x, y)

    for engine in attacks.ENGINES:
        adversarial = attacks.pgd(model, x, y, **case.settings, bounds=case.bounds, start=start, engine=engine)
        assert torch.allclose(adversarial, expected, rtol=0, atol=1e-12), engine
    assert (expected - x - start).abs().max() > step_size, "the attack went nowhere"
    if case.bounds is None:
        assert expected.min() < 0, "the box was never left"


@pytest.mark.parametrize("engine", attacks.ENGINES)
def test_every_step_is_advertorchs(engine, wide_resnet):
    """Not only the last iterate: 0, 1, 2 and 3 steps, written out here."""
    model, x, y = wide_resnet
    eps, step_size = 8 / 255, 6 / 255
    delta = (torch.rand(x.shape, generator=seeded(), dtype=x.dtype) * 2 - 1) * eps
    delta = (x + delta).clamp(0, 1) - x
    start = delta.clone()
    for num_steps in range(4):
        adversarial = attacks.pgd(model, x, y, eps=eps, step_size=step_size, num_steps=num_steps, start=start, engine=engine)
        assert torch.allclose(adversarial, x + delta, rtol=0, atol=1e-12)
        delta = delta.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x + delta), y, reduction="sum"), delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp(-eps, eps)
        delta = (x + delta).clamp(0, 1) - x


EPSILONS = (1e-6, 1e-3, 1 / 255, 2 / 255, 8 / 255, 0.0123, 0.1, 0.125, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7, 1.0)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["boxed", "unboxed"])
@pytest.mark.parametrize("eps", EPSILONS)
def test_eps_and_bounds_hold_exactly_in_float32(eps, bounds):
    """Differences of float32 numbers are taken in float64, where they are exact."""
    x = torch.rand(40, 1, 16, 16, generator=seeded())
    x[0] = torch.rand(1, 16, 16, generator=seeded(1)) ** 12  # many magnitudes
    x[1] = torch.arange(256).view(1, 16, 16) / 255
    direction = torch.randn(256, 2, generator=seeded(2))
    adversarial = attacks.pgd(
        lambda z: z.flatten(1) @ direction, x, torch.zeros(40, dtype=torch.long), eps=eps, step_size=eps, num_steps=3,
        bounds=bounds, generator=seeded(3),
    )  # fmt: skip
    distance = (adversarial.double() - x.double()).abs()
    assert distance.max().item() <= eps
    assert distance.max().item() >= eps * 0.999 - 1e-7, "the budget was not used"
    if bounds:
        assert adversarial.min().item() >= 0
        assert adversarial.max().item() <= 1


@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_eps_and_bounds_hold_for_a_network(eps, trained, digits):
    x, y = digits[0][:20], digits[1][:20]
    adversarial = attacks.pgd(trained, x, y, eps=eps, step_size=eps / 4, num_steps=10, bounds=(0.0, 1.0), generator=seeded())
    assert (adversarial.double() - x.double()).abs().max().item() <= eps
    assert (adversarial.min().item(), adversarial.max().item()) >= (0.0, eps)
    assert adversarial.max().item() <= 1.0


def test_other_bounds(trained, digits):
    x = digits[0][:4] / 2 + 0.25
    adversarial = attacks.pgd(trained, x, eps=0.5, step_size=0.1, num_steps=8, bounds=(0.25, 0.75), generator=seeded())
    assert adversarial.min() == 0.25
    assert adversarial.max() == 0.75


@pytest.mark.parametrize("precision", list(attacks.PRECISIONS))
@pytest.mark.parametrize("engine", attacks.ENGINES)
def test_the_model_is_as_before(engine, precision):
    torch.manual_seed(0)
    model = models.wide_resnet28(0.125)
    model.train()
    model.blocks[2].eval()
    model.stem.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones(10)
    modes = [module.training for module in model.modules()]
    needs = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    attacks.pgd(
        model, torch.rand(2, 3, 16, 16), eps=0.1, step_size=0.05, num_steps=2, engine=engine, precision=precision,
        generator=seeded(),
    )  # fmt: skip
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == needs
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == {"head.bias"}
    assert torch.equal(model.head.bias.grad, torch.ones(10))


def test_the_model_is_as_before_after_an_error(trained, digits):
    trained.train()
    with pytest.raises(FloatingPointError):
        attacks.pgd(lambda z: trained(z) * math.nan, digits[0][:2], digits[1][:2], **MNIST)
    with pytest.raises(ZeroDivisionError), attacks.frozen(trained):
        assert not trained.training
        raise ZeroDivisionError
    assert all(module.training for module in trained.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_the_model_is_attacked_in_eval_mode():
    torch.manual_seed(0)
    model, x = models.wide_resnet28(0.125), torch.rand(4, 3, 16, 16)
    model(x)
    settings = {"eps": 0.1, "step_size": 0.05, "num_steps": 2, "random_start": False}
    y = torch.zeros(4, dtype=torch.long)
    assert torch.equal(attacks.pgd(model.train(), x, y, **settings), attacks.pgd(model.eval(), x, y, **settings))


def test_no_label_means_the_prediction(trained, digits):
    x = digits[0][:20]
    prediction = trained(x).argmax(1)
    for seed in range(2):
        given, own = (attacks.pgd(trained, x, y, **MNIST, generator=seeded(seed)) for y in (prediction, None))
        assert torch.equal(given, own)


@pytest.mark.parametrize("engine", attacks.ENGINES)
def test_no_budget_or_no_steps(engine, trained, digits):
    x, y = digits[0][:4], digits[1][:4]
    attack = {"step_size": 0.1, "engine": engine}
    assert torch.equal(attacks.pgd(trained, x, y, eps=0.0, num_steps=3, **attack), x)
    assert torch.equal(attacks.pgd(trained, x, y, eps=0.3, num_steps=0, random_start=False, **attack), x)
    started = attacks.pgd(trained, x, y, eps=0.3, num_steps=0, generator=seeded(), **attack)
    assert not torch.equal(started, x)
    assert (started - x).abs().max() <= 0.3
    assert attacks.pgd(trained, x[:0], y[:0], eps=0.3, num_steps=2, **attack).shape == (0, 1, 28, 28)


@pytest.mark.parametrize("engine", attacks.ENGINES)
def test_a_start_is_projected(engine, trained, digits):
    x, y = digits[0][:4].double(), digits[1][:4]
    start = torch.linspace(-2, 2, x.numel(), dtype=x.dtype).view_as(x)
    adversarial = attacks.pgd(
        trained.double(), x, y, eps=0.3, step_size=0.0, num_steps=1, start=start, engine=engine, random_start=False
    )
    assert torch.allclose(adversarial, (x + start.clamp(-0.3, 0.3)).clamp(0, 1), atol=1e-15)


def test_without_a_random_start_the_attack_begins_at_the_image(trained, digits):
    x, y = digits[0][:4], digits[1][:4]
    adversarial = attacks.pgd(trained, x, y, eps=0.3, step_size=0.1, num_steps=1, random_start=False)
    moved = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(trained(moved), y, reduction="sum"), moved)
    assert torch.allclose(adversarial, (x + 0.1 * gradient.sign()).clamp(0, 1), atol=1e-6)


def test_random_start_is_uniform_in_the_ball():
    delta = attacks.random_delta(torch.zeros(8, 1, 50, 50), 0.3, seeded())
    assert delta.abs().max() <= 0.3
    shares = torch.histc(delta, bins=10, min=-0.3, max=0.3) / delta.numel()
    assert ((shares - 0.1).abs() < 0.01).all()


def test_the_loss_grows_and_the_accuracy_falls(trained, digits):
    x, y = digits[0][-200:], digits[1][-200:]
    start = attacks.random_delta(x, 0.3, seeded())
    losses, accuracies = [], []
    for num_steps in (0, 5, 40):
        adversarial = attacks.pgd(
            trained, x, y, eps=0.3, step_size=0.01 * 40 / max(num_steps, 1), num_steps=num_steps, start=start
        )
        losses.append(F.cross_entropy(trained(adversarial), y).item())
        accuracies.append((trained(adversarial).argmax(1) == y).float().mean().item())
    assert losses[0] < losses[1] < losses[2]
    assert accuracies[0] > 0.5
    assert accuracies[2] < 0.1


def test_the_generator_decides_and_the_global_state_is_left_alone(trained, digits):
    x, y = digits[0][:4], digits[1][:4]
    before = torch.random.get_rng_state()
    first, again, other = (attacks.pgd(trained, x, y, **MNIST, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("engine", attacks.ENGINES)
def test_the_arguments_are_left_alone(engine, trained, digits):
    x, y = digits[0][:4].clone(), digits[1][:4].clone()
    start = attacks.random_delta(x, 0.3, seeded())
    copies = x.clone(), y.clone(), start.clone()
    adversarial = attacks.pgd(trained, x, y, **MNIST, start=start, engine=engine)
    assert all(torch.equal(now, before) for now, before in zip((x, y, start), copies, strict=True))
    assert (adversarial.dtype, adversarial.requires_grad, x.requires_grad, start.requires_grad) == (
        x.dtype,
        False,
        False,
        False,
    )


def test_bfloat16_attacks_about_as_well(trained, digits):
    x, y = digits[0][-200:], digits[1][-200:]
    start = attacks.random_delta(x, 0.1, seeded())
    survive = {}
    for precision in attacks.PRECISIONS:
        adversarial = attacks.pgd(trained, x, y, eps=0.1, step_size=0.02, num_steps=10, start=start, precision=precision)
        assert adversarial.dtype == torch.float32
        assert (adversarial.double() - x.double()).abs().max().item() <= 0.1
        assert (adversarial.min().item(), adversarial.max().item()) >= (0.0, 0.5)
        assert adversarial.max().item() <= 1.0
        survive[precision] = (trained(adversarial).argmax(1) == y).float().mean().item()
    clean = (trained(x).argmax(1) == y).float().mean().item()
    assert survive["float32"] < clean - 0.1
    assert survive["bfloat16"] == pytest.approx(survive["float32"], abs=0.05)


@pytest.mark.parametrize("precision", list(attacks.PRECISIONS))
def test_early_stop_keeps_the_first_iterate_that_is_misclassified(precision, trained, digits):
    """Against the plain attack, stopped by hand after 0, 1, 2, … steps."""
    x, y = digits[0][-60:], digits[1][-60:]
    if precision == "float32":  # "x's own type": in float64 rounding does not decide the sign of a gradient
        trained, x = copy.deepcopy(trained).double(), x.double()
    attack = {"eps": 0.15, "step_size": 0.03, "start": attacks.random_delta(x, 0.15, seeded()), "precision": precision}
    adversarial = attacks.pgd(trained, x, y, **attack, num_steps=8, early_stop=True)
    expected, open_ = x.clone(), torch.ones(60, dtype=torch.bool)
    for num_steps in range(9):
        iterate = attacks.pgd(trained, x, y, **attack, num_steps=num_steps)
        expected[open_] = iterate[open_]
        open_ &= trained(iterate).argmax(1) == y
    assert 5 < open_.sum() < 55
    assert torch.equal(trained(adversarial).argmax(1) == y, open_) or precision == "bfloat16"
    assert ((adversarial - expected).flatten(1).abs().amax(1) < 1e-5).float().mean() >= (1.0 if precision == "float32" else 0.8)
    assert (adversarial.double() - x.double()).abs().max().item() <= 0.15


def test_restarts_only_ever_help(trained, digits):
    x, y = digits[0][-100:], digits[1][-100:]
    attack = {"eps": 0.1, "step_size": 0.03, "num_steps": 3, "early_stop": True}
    held = []
    for restarts in (1, 4):
        adversarial = attacks.pgd(trained, x, y, **attack, restarts=restarts, generator=seeded())
        held.append(trained(adversarial).argmax(1) == y)
        assert (adversarial.double() - x.double()).abs().max().item() <= 0.1
    assert not (held[1] & ~held[0]).any()
    assert held[1].sum() < held[0].sum()


class PoisonedImage(nn.Module):
    """Logits that are not a number for every image whose first pixel is bright."""

    def forward(self, z):
        return z.flatten(1)[:, :2] / (z[:, 0, 0, :1] < 0.9)


def test_a_non_finite_loss_names_the_images():
    x = torch.full((6, 1, 4, 4), 0.5)
    x[[1, 4]] = 0.95
    with pytest.raises(FloatingPointError, match=r"batch of 6 images: images \[1, 4\] of the batch, before any step"):
        attacks.pgd(PoisonedImage(), x, torch.ones(6, dtype=torch.long), eps=0.01, step_size=0.01, num_steps=2)


def test_a_loss_that_becomes_non_finite_during_the_attack():
    x, y = torch.full((3, 1, 4, 4), 0.88), torch.ones(3, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="batch of 3 images: the batch, or its gradient, during the attack"):
        attacks.pgd(PoisonedImage(), x, y, eps=0.1, step_size=0.05, num_steps=4, random_start=False)


X, Y = torch.full((2, 1, 28, 28), 0.5), torch.tensor([0, 1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eps": -0.1}, r"eps must be ≥ 0 and finite, given -0.1"),
        ({"eps": math.inf}, r"eps must be ≥ 0 and finite, given inf"),
        ({"eps": math.nan}, r"eps must be ≥ 0 and finite, given nan"),
        ({"step_size": -0.01}, r"step_size must be ≥ 0 and finite, given -0.01"),
        ({"step_size": math.inf}, r"step_size .* given inf"),
        ({"num_steps": 1.5}, r"num_steps must be a whole number ≥ 0, given 1.5"),
        ({"num_steps": -1}, r"num_steps must be a whole number ≥ 0, given -1"),
        ({"num_steps": math.inf}, r"num_steps must be a whole number ≥ 0, given inf"),
        ({"bounds": (1.0, 0.0)}, r"low < high, or None, given \(1.0, 0.0\)"),
        ({"bounds": (0.5, 0.5)}, r"given \(0.5, 0.5\)"),
        ({"precision": "float16"}, r"unknown precision 'float16'; allowed: float32, bfloat16"),
        ({"engine": "foolbox"}, r"unknown engine 'foolbox'; allowed: lib, advertorch"),
        ({"start": X[:1]}, r"shape \(2, 1, 28, 28\), given \(1, 1, 28, 28\)"),
        ({"early_stop": True, "engine": "advertorch"}, "early_stop needs engine='lib', given 'advertorch'"),
        ({"restarts": 2}, "restarts=2 needs early_stop=True"),
        ({"restarts": 0, "early_stop": True}, "restarts must be a whole number ≥ 1, given 0"),
        ({"restarts": 1.5, "early_stop": True}, "restarts must be a whole number ≥ 1, given 1.5"),
        ({"restarts": 2, "early_stop": True, "random_start": False}, "restarts=2 needs random_start=True"),
        ({"x": X[0]}, r"float tensor N×C×H×W, given torch.float32 of shape \(1, 28, 28\)"),
        ({"x": (X * 255).byte()}, r"float tensor N×C×H×W, given torch.uint8"),
        ({"x": X * 255}, r"images must lie in \[0, 1\], given values from 127.5 to 127.5"),
        ({"x": X - 1}, r"images must lie in \[0, 1\], given values from -0.5"),
        ({"x": X * math.nan}, "images must be numbers, given images with NaN"),
        ({"bounds": (0.6, 1.0)}, r"images must lie in \[0.6, 1\], given values from 0.5 to 0.5"),
        ({"y": Y[:1]}, "every image needs one label"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_pgd_refuses(trained, changed, message):
    arguments = {"x": X, "y": Y, **MNIST, **changed}
    with pytest.raises(ValueError, match=message):
        attacks.pgd(trained, **arguments)
    assert trained[0].weight.requires_grad


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "l2"}, "unknown norm 'l2'; allowed: linf"),
        ({"eps": -1}, "eps must be"),
        ({"step_size": math.nan}, "step_size must be"),
        ({"num_steps": 0.5}, "num_steps must be"),
        ({"bounds": (1, 0)}, "bounds must be"),
        ({"restarts": 5}, "restarts=5 needs early_stop=True"),
    ],
)
def test_a_threat_model_refuses(changed, message):
    with pytest.raises(ValueError, match=message):
        attacks.ThreatModel(**{**MNIST, **changed})


def test_a_threat_model_is_the_arguments_of_an_attack(trained, digits):
    threat_model = attacks.ThreatModel(**MNIST, random_start=False)
    arguments = {**MNIST, "random_start": False, "bounds": (0.0, 1.0)}
    assert arguments.items() <= threat_model.attack().items()
    x = digits[0][:2]
    assert torch.equal(attacks.pgd(trained, x, **threat_model.attack()), attacks.pgd(trained, x, **arguments))


# On a GPU one step is captured as a graph. Here the capture is replaced by the function it would record.


@pytest.fixture
def captured(monkeypatch):
    monkeypatch.setattr(forms, "captures", lambda model, x: True)
    monkeypatch.setattr(forms, "program_of", lambda model, x: None)
    monkeypatch.setattr(forms, "_graph_of", lambda function, device: function)
    monkeypatch.setattr(forms, "_CAPTURED", type(forms._CAPTURED)())
    return forms._CAPTURED


@pytest.mark.parametrize("precision", attacks.PRECISIONS)
def test_a_captured_step_is_the_step(request, monkeypatch, trained, digits, precision):
    """Also after the weights were changed in place, with another eps, and with another size of batch."""
    cases = [(0.3, 20), (0.1, 20), (0.3, 7)]
    monkeypatch.setattr(forms, "program_of", lambda model, x: None)  # the compiled attack rounds otherwise

    def attack():
        results = []
        for eps, size in cases:
            with torch.no_grad():
                trained[0].weight.mul_(0.9)
            x, y = digits[0][-size:], digits[1][-size:]
            settings = {"eps": eps, "step_size": 0.02, "num_steps": 5, "precision": precision}
            results.append(attacks.pgd(trained, x, y, generator=seeded(), **settings))
        return results

    before = copy.deepcopy(trained.state_dict())
    direct = attack()
    trained.load_state_dict(before)
    captured = request.getfixturevalue("captured")
    replayed = attack()
    assert len(captured) == 1  # of the largest batch
    for one, other in zip(direct, replayed, strict=True):
        assert torch.equal(one, other)


def test_few_captures_are_kept_and_moved_weights_captured_anew(captured, trained, digits):
    x, y = digits[0][:12], digits[1][:12]
    settings = {"eps": 0.1, "step_size": 0.02, "num_steps": 1}
    attacks.pgd(trained, x, y, **settings)
    assert len(captured) == 1
    trained[0].weight = nn.Parameter(trained[0].weight.detach().clone())
    attacks.pgd(trained, x, y, **settings)
    assert len(captured) == 2
    for size in range(1, 9):  # as at the end of an evaluation: no graph of its own
        attacks.pgd(trained, x[:size], y[:size], **settings)
    assert [len(step.state.adversarial) for step in captured.values()] == [12, 12]
    trained[0].weight = nn.Parameter(trained[0].weight.detach().clone())
    attacks.pgd(trained, x[:3], y[:3], **settings)
    attacks.pgd(trained, x, y, **settings)
    assert [len(step.state.adversarial) for step in captured.values()] == [12, 12]


def test_a_replay_that_does_nothing_is_noticed(captured, trained, digits, monkeypatch):
    monkeypatch.setattr(forms, "_graph_of", lambda function, device: lambda: None)
    with pytest.raises(RuntimeError, match="a captured CUDA graph gives other numbers than the network, on cpu"):
        attacks.pgd(trained, digits[0][:3], digits[1][:3], **MNIST)


def test_a_captured_step_names_a_non_finite_loss(captured, trained, digits):
    with torch.no_grad():
        trained[-1].bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="non-finite loss on a batch of 3 images"):
        attacks.pgd(trained, digits[0][:3], digits[1][:3], **MNIST)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["lenet5", "wide_resnet28"])
def test_an_attack_sees_the_weights_of_its_time(name, precision):
    """What is computed once an attack is not kept for the next: weights changed in between, in any way, count."""
    torch.manual_seed(0)
    model = models.build(name, 0.125).eval()
    x = torch.rand(4, *((1, 28, 28) if name == "lenet5" else (3, 32, 32)))
    settings = {"eps": 0.1, "step_size": 0.05, "num_steps": 2, "random_start": False, "precision": precision}
    before = attacks.pgd(model, x, torch.arange(4), **settings)
    assert torch.equal(attacks.pgd(model, x, torch.arange(4), **settings), before)
    for parameter in model.parameters():
        parameter.data.neg_()  # past autograd's count of versions
    changed = attacks.pgd(model, x, torch.arange(4), **settings)
    assert not torch.equal(changed, before)
    assert torch.equal(attacks.pgd(copy.deepcopy(model), x, torch.arange(4), **settings), changed)


# --- Square -----------------------------------------------------------------------------------------------------------


def correct(model, x, y) -> torch.Tensor:
    with torch.no_grad():
        return model(x).argmax(1) == y


def test_square_breaks_a_standard_classifier_within_its_budget(trained, digits):
    x, y = digits[0][-40:], digits[1][-40:]
    adversarial = attacks.square(trained, x, y, eps=0.3, queries=60, generator=seeded())
    assert (adversarial - x).abs().max() <= 0.3 + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    before, after = correct(trained, x, y), correct(trained, adversarial, y)
    assert before.sum() - after.sum() >= 10
    assert not (after & ~before).any()
    assert torch.equal(adversarial[~before], x[~before])  # misclassified already: left as it is
    weaker = attacks.square(trained, x, y, eps=0.3, queries=2, generator=seeded())
    assert correct(trained, weaker, y).sum() > after.sum()


@pytest.mark.parametrize("index", [None, 0, 1])
def test_the_toolbox_is_called_on_the_gpu_of_the_images(index):
    """It takes whichever is the current one."""
    assert adapters.current(torch.device("cuda", index) if index is not None else torch.device("cuda")).idx == index
    with adapters.current(torch.device("cpu")):
        pass


def test_square_is_decided_by_its_generator_alone(trained, digits):
    x, y = digits[0][-8:], digits[1][-8:]
    attack = {"eps": 0.1, "queries": 5}
    first = attacks.square(trained, x, y, **attack, generator=seeded(1))
    state, numpys = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = attacks.square(trained, x, y, **attack, generator=seeded(1))
    assert torch.equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpys).all()  # noqa: NPY002
    assert not torch.equal(first, attacks.square(trained, x, y, **attack, generator=seeded(2)))
    assert not trained.training
    assert trained[0].weight.requires_grad


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eps": -0.1}, "eps must be ≥ 0 and finite, given -0.1"),
        ({"queries": 0}, "queries must be a whole number ≥ 1, given 0"),
        ({"queries": 1.5}, "queries must be a whole number ≥ 1, given 1.5"),
        ({"bounds": None}, r"needs bounds, \(low, high\), given None"),
        ({"bounds": (1.0, 0.0)}, "low < high"),
        ({"x": X * 255}, r"images must lie in \[0, 1\], given values from 127.5"),
    ],
)
def test_square_refuses(trained, changed, message):
    with pytest.raises(ValueError, match=message):
        attacks.square(trained, **{"x": X, "y": Y, "eps": 0.3, "queries": 3, **changed})


# --- other attacks ----------------------------------------------------------------------------------------------------


def naive_ascent(model, x, y, start, *, eps, step_size, num_steps, momentum, margin) -> torch.Tensor:
    """Image by image, as the papers write it."""
    iterates = []
    for image, label, delta in zip(x, y.tolist(), start, strict=True):
        adversarial, g = (image + delta).clamp(image - eps, image + eps).clamp(0, 1), torch.zeros_like(image)
        for _ in range(num_steps):
            point = adversarial.detach().requires_grad_(True)
            logits = model(point[None])[0]
            wrong = torch.cat([logits[:label], logits[label + 1 :]])
            loss = wrong.max() - logits[label] if margin else F.cross_entropy(logits[None], torch.tensor([label]))
            (gradient,) = torch.autograd.grad(loss, point)
            g = momentum * g + gradient / gradient.abs().sum() if momentum else gradient
            adversarial = (adversarial + step_size * g.sign()).clamp(image - eps, image + eps).clamp(0, 1)
        iterates.append(adversarial)
    return torch.stack(iterates)


@pytest.mark.parametrize("loss", attacks.LOSSES)
@pytest.mark.parametrize("momentum", [0.0, 1.0, 0.5])
def test_another_loss_and_momentum_take_the_steps_of_their_papers(trained, digits, loss, momentum):
    model, x, y = copy.deepcopy(trained).double(), without_ties(digits[0][-6:]).double(), digits[1][-6:]
    settings = {"eps": 0.2, "step_size": 0.05, "num_steps": 7}
    start = attacks.random_delta(x, 0.2, seeded())
    adversarial = attacks.pgd(model, x, y, start=start, loss=loss, momentum=momentum, **settings)
    expected = naive_ascent(model, x, y, start, momentum=momentum, margin=loss == "margin", **settings)
    assert torch.allclose(adversarial, expected, rtol=0, atol=1e-12)
    plain = attacks.pgd(model, x, y, start=start, **settings)
    assert torch.equal(adversarial, plain) == (loss == "cross_entropy" and not momentum)


def test_the_margin_is_that_of_the_best_wrong_class():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert attacks.margin_loss(logits, torch.tensor([0, 2])).item() == (2.0 - 3.0) + (5.0 - 4.0)


def test_the_margin_moves_where_the_cross_entropy_is_flat(trained, digits):
    """A model so sure of itself that its probabilities are 0 and 1: the cross entropy has no gradient left."""

    class Sure(nn.Module):
        def forward(self, z):
            return 1e4 * trained(z)

    x = digits[0][-20:]
    y = trained(x).argmax(1)
    settings = {"eps": 0.1, "step_size": 0.05, "num_steps": 3, "start": torch.zeros_like(x)}
    unmoved, moved = (attacks.pgd(Sure(), x, y, loss=loss, **settings) for loss in ("cross_entropy", "margin"))
    assert (unmoved == x).flatten(1).all(1).float().mean() > 0.5
    assert (moved != x).flatten(1).any(1).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "hinge"}, "unknown loss 'hinge'; allowed: cross_entropy, margin"),
        ({"momentum": -0.1}, "momentum must be ≥ 0 and finite, given -0.1"),
        ({"momentum": math.inf}, "momentum must be ≥ 0 and finite, given inf"),
        ({"loss": "margin", "early_stop": True}, "loss='margin', momentum=0 needs early_stop=False and engine='lib'"),
        ({"momentum": 1.0, "engine": "advertorch"}, "momentum=1 needs early_stop=False and engine='lib'"),
    ],
)
def test_other_attacks_refuse(trained, changed, message):
    with pytest.raises(ValueError, match=message):
        attacks.pgd(trained, X, Y, **{**MNIST, **changed})
    if "engine" not in changed:
        with pytest.raises(ValueError, match=message):
            attacks.ThreatModel(**{**MNIST, **changed})


def test_a_non_finite_loss_is_told_with_momentum_too(digits):
    class Poisoned(nn.Module):
        def forward(self, z):
            return z.flatten(1)[:, :10] / 0.0

    with pytest.raises(FloatingPointError, match="non-finite loss on a batch of 2 images"):
        attacks.pgd(Poisoned(), digits[0][:2], digits[1][:2], momentum=1.0, **MNIST)


FEW = {"iterations": 20, "targets": 3, "queries": 100}


def test_autoattack_is_stronger_than_pgd_and_keeps_its_budget(trained, digits):
    x, y = digits[0][-40:], digits[1][-40:]
    adversarial = attacks.autoattack(trained, x, y, eps=0.1, seed=0, **FEW)
    pgd = attacks.pgd(trained, x, y, eps=0.1, step_size=0.0025, num_steps=40, generator=seeded())
    held, clean = (trained(adversarial).argmax(1) == y), (trained(x).argmax(1) == y)
    assert 0 < held.sum() <= (trained(pgd).argmax(1) == y).sum() < clean.sum()
    assert (adversarial - x).abs().max() <= 0.1 + 1e-6
    assert 0 <= adversarial.min() <= adversarial.max() <= 1
    # What was wrong from the start is not attacked.
    assert torch.equal(adversarial[~clean], x[~clean])


def test_autoattack_is_decided_by_its_seed_and_leaves_no_trace(trained, digits):
    x, y = digits[0][-10:].contiguous(memory_format=torch.channels_last), digits[1][-10:]
    trained.train()
    before, weights = torch.random.get_rng_state(), copy.deepcopy(trained.state_dict())
    one, again, other = (attacks.autoattack(trained, x, y, eps=0.1, seed=seed, **FEW) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in trained.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in trained.state_dict().items())


def test_autoattacks_defaults_are_the_standard_version(monkeypatch, trained, digits):
    from pyautoattack import AutoAttack

    attacks_run = []

    def run(self, x, y, **_):
        attacks_run.append(self)
        return x, y

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", run)
    attacks.autoattack(trained, digits[0][:2], digits[1][:2], eps=0.3, seed=0)
    standard, (ours,) = AutoAttack(trained, eps=0.3, seed=0), attacks_run
    assert ours.attacks_to_run == standard.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    for part, names in {
        "apgd": ("n_iter", "n_restarts", "n_iter_2", "n_iter_min", "size_decr", "eps", "norm"),
        "apgd_targeted": ("n_iter", "n_restarts", "n_target_classes", "n_iter_2", "eps", "norm"),
        "fab": ("n_iter", "n_restarts", "n_target_classes", "eps", "norm"),
        "square": ("n_queries", "n_restarts", "p_init", "eps", "norm"),
    }.items():
        for name in names:
            assert getattr(getattr(ours, part), name) == getattr(getattr(standard, part), name), (part, name)
    assert (ours.apgd.n_iter, ours.fab.n_target_classes, ours.square.n_queries) == (100, 9, 5000)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"iterations": 0}, "iterations must be a whole number ≥ 1, given 0"),
        ({"targets": 1.5}, "targets must be a whole number ≥ 1, given 1.5"),
        ({"queries": -1}, "queries must be a whole number ≥ 1, given -1"),
        ({"eps": -0.1}, "eps must be ≥ 0 and finite, given -0.1"),
        ({"x": X * 3}, r"images must lie in \[0, 1\], given values from 1.5"),
    ],
)
def test_autoattack_refuses(trained, changed, message):
    with pytest.raises(ValueError, match=message):
        attacks.autoattack(trained, **{"x": X, "y": Y, "eps": 0.3, "seed": 0, **changed})
