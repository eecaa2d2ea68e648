"""An attack is the same whatever stands around it: modes, gradients, autocast, a default device, other threads."""

import threading
from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import attacks, evaluation, models
from lib.fast import forms, rows

WEAK = {"eps": 0.1, "step_size": 0.03, "num_steps": 3, "random_start": False}


def noisy() -> nn.Module:
    """A network whose train mode is another function, and moves its statistics."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 64, 10)
    )


class Layer(nn.Module):
    """A module whose own forward asks for its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.network = noisy()

    def forward(self, x):
        return F.dropout(self.network(x), 0.5, self.training)


X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(6)


def state(model: nn.Module) -> dict:
    return {
        "modes": [module.training for module in model.modules()],
        "needs": [parameter.requires_grad for parameter in model.parameters()],
        "values": [value.clone() for value in model.state_dict().values()],
        "gradients": [parameter.grad for parameter in model.parameters()],
    }


def same(one: dict, other: dict) -> bool:
    values = zip(one.pop("values"), other.pop("values"), strict=True)
    return all(torch.equal(*pair) for pair in values) and one == other


class Behind:
    """A callable that is no module and keeps one."""

    def __init__(self, model: nn.Module) -> None:
        self.models = {"the": [model]}

    def __call__(self, x):
        return self.models["the"][0](x)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("engine", attacks.ENGINES)
@pytest.mark.parametrize(
    "wrapped",
    [lambda m: lambda z: m(z), lambda m: m.forward, lambda m: m.__call__, Behind],
    ids=["lambda", "forward", "call", "object"],
)
def test_a_model_behind_a_callable_is_attacked_in_eval_mode(wrapped, engine):
    model = Layer()
    before = state(model)
    adversarial = attacks.pgd(wrapped(model), X, Y, engine=engine, **WEAK)
    assert same(before, state(model))
    assert torch.equal(adversarial, attacks.pgd(model.eval(), X, Y, engine=engine, **WEAK))


def test_a_model_behind_a_callable_is_evaluated_in_eval_mode(unchecked):
    model = Layer()
    before = state(model)
    evaluated = evaluation.evaluate(lambda z: model(z), X, Y, attacks.ThreatModel(**WEAK))
    assert same(before, state(model))
    expected = evaluation.evaluate(model.eval(), X, Y, attacks.ThreatModel(**WEAK))
    assert evaluated.metrics() == expected.metrics()


@contextmanager
def default_device(name: str):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS: dict[str, Callable] = {
    "no-grad": torch.no_grad,
    "inference-mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default-device": lambda: default_device("meta"),
}
KINDS = {
    "plain": {},
    "prediction": {"y": None},
    "random-start": {"random_start": True},
    "unboxed": {"bounds": None},
    "advertorch": {"engine": "advertorch"},
    "bfloat16": {"precision": "bfloat16"},
    "early-stop": {"early_stop": True, "random_start": True, "restarts": 2},
    "margin": {"loss": "margin", "momentum": 1.0},
}
NETWORKS = {
    "lenet5": (lambda: models.lenet5(0.125), (1, 28, 28)),
    "wide": (lambda: models.wide_resnet28(1.0), (3, 32, 32)),
    "narrow": (lambda: models.wide_resnet28(0.25), (3, 32, 32)),
    "other": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28)),
}


def attacked(model: nn.Module, x: torch.Tensor, **changed) -> torch.Tensor:
    return attacks.pgd(model, x, **{"y": Y[:2], **WEAK, **changed}, generator=torch.Generator("cpu").manual_seed(0))


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize(("network", "kind"), [("lenet5", kind) for kind in KINDS] + [(name, "plain") for name in NETWORKS][1:])
def test_an_attack_is_the_same_whatever_is_around_it(network, kind, around):
    build, shape = NETWORKS[network]
    torch.manual_seed(0)
    model = build().eval()
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = attacked(model, x, **KINDS[kind])
    with SURROUNDINGS[around]():
        adversarial = attacked(model, x, **KINDS[kind])
        first_there = attacked(model, x.clone(), **KINDS[kind])
    assert torch.equal(adversarial, expected)
    assert torch.equal(first_there, expected)
    assert not adversarial.is_inference()


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_an_evaluation_is_the_same_whatever_is_around_it(around, trained, digits):
    x, y = digits[0][:20], digits[1][:20]
    threat_model = attacks.ThreatModel(0.1, 0.05, 2, random_start=False)
    expected = evaluation.evaluate(trained, x, y, threat_model)
    with SURROUNDINGS[around]():
        evaluated = evaluation.evaluate(trained, x, y, threat_model)
    assert evaluated.metrics() == expected.metrics()


def test_threads_that_attack_one_model_leave_it_as_it_was():
    model = noisy()
    before = state(model)
    expected = attacks.pgd(model, X, Y, **WEAK)
    gate, adversarial = threading.Barrier(4), [None] * 4

    def work(i: int) -> None:
        gate.wait()
        for _ in range(5):
            adversarial[i] = attacks.pgd(model, X, Y, **{**WEAK, "num_steps": 3})

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, expected) for one in adversarial)
    assert same(before, state(model))


def test_blocks_that_overlap_restore_what_was_before_both():
    """The first to freeze leaves first: what the second one saw was frozen already."""
    model = noisy()
    before = state(model)
    first, second = attacks.frozen(model), attacks.frozen(nn.Sequential(model))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(module.training for module in model.modules())
    second.__exit__(None, None, None)
    assert same(before, state(model))


def test_another_threads_model_keeps_its_mode_while_a_function_is_attacked(unchecked):
    """The modules that a function calls are found by a hook, which sees those of every thread."""
    other, modes = noisy(), []

    def function(z):
        thread = threading.Thread(target=lambda: (other(X), modes.append(other.training)))
        thread.start()
        thread.join()
        return z.flatten(1)[:, :10]

    attacks.pgd(function, X, Y, **{**WEAK, "num_steps": 1})
    assert modes
    assert all(modes)
    assert other.training


class NaNGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


class Broken(nn.Module):
    def forward(self, x):
        return NaNGradient.apply(x).flatten(1)[:, :10]


@pytest.mark.parametrize("changed", [{}, {"early_stop": True}, {"loss": "margin"}, {"momentum": 0.5}], ids=str)
def test_a_nan_gradient_is_no_robustness(changed):
    y = X.flatten(1)[:, :10].argmax(1)
    with pytest.raises(FloatingPointError, match="non-finite loss on a batch of 6 images: the batch, or its gradient, during"):
        attacks.pgd(Broken(), X, y, **{**WEAK, "eps": 1e-4, **changed})


@pytest.mark.parametrize("name", ["lenet5", "wide_resnet28"])
def test_a_compiled_attack_sees_a_nan_gradient(name, monkeypatch):
    """A program has the weights of its gradient beside those of its logits: one of the former is broken."""
    torch.manual_seed(0)
    model = models.build(name, 0.125 if name == "lenet5" else 0.25).eval()
    x, y = torch.rand(20, *((1, 28, 28) if name == "lenet5" else (3, 32, 32))), torch.arange(20) % 10
    program = forms.program_of(model, x)
    last = max(rows.KINDS.index("unpool" if name == "lenet5" else "convolve") == row[0] and row[rows.W]
               for row in program.table.rows[program.table.forward :].tolist())  # fmt: skip
    program.weights[last] = torch.nan
    monkeypatch.setattr(forms, "program_of", lambda model, x: program)
    with pytest.raises(FloatingPointError, match="non-finite loss on a batch of 20 images: the batch, or its gradient, during"):
        attacks.pgd(model, x, y, **{**WEAK, "num_steps": 1})


def test_nan_weights_are_no_clean_accuracy(trained, digits):
    with torch.no_grad():
        trained[-1].bias[3] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"table-2, images 0 to 9: non-finite logits on a batch of 10 images: images \[0, 1"
    ):
        evaluation.evaluate(trained, digits[0][:20], digits[1][:20], batch_size=10, description="table-2")
