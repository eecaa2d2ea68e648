"""The compiled training step: the network's own loss, gradients and moments, and no network trained as another one."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import models, training
from lib.fast import forms, training_step, vectors

pytestmark = pytest.mark.skipif(not vectors.has_avx2(), reason="a processor without AVX2 takes the framework's way")


def images(n: int, size: int = 32, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(n), dtype=dtype)


def network(widen_factor: float = 1 / 16, dtype: torch.dtype = torch.float64, **shape: int) -> models.WideResNet:
    """In train mode, with the weights and moments of batch normalisation away from where they begin."""
    torch.manual_seed(0)
    model = models.wide_resnet28(widen_factor, **shape)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
                tensor.add_(torch.randn_like(tensor), alpha=0.3)
    return model.to(dtype).train()


@pytest.mark.parametrize(
    ("widen_factor", "n", "shape"),
    [
        (1 / 16, 8, {}),
        (1 / 8, 24, {"image_size": 16, "classes": 3}),
        (0.25, 32, {}),
        (0.5, 16, {"image_size": 24}),
        (0.4, 16, {"image_size": 16}),  # as many channels as fill no tile
    ],
)
def test_loss_gradients_and_moments_are_the_networks_own(widen_factor, n, shape):
    """In float64, where the order of sums leaves nothing to tell apart; twice, since the second step finds used planes."""
    model = network(widen_factor, **shape)
    lanes = vectors.LANES // 2
    n += -n % lanes
    step = training_step.of(model, images(n, shape.get("image_size", 32)))
    assert step is not None
    for seed in (1, 2):
        x, y = images(n + seed, shape.get("image_size", 32))[:n], torch.arange(n) % shape.get("classes", 10)
        expected = copy.deepcopy(model)
        logits = expected(x)
        loss = F.cross_entropy(logits, y)
        expected.zero_grad()
        loss.backward()
        ours, correct = step(x, y)
        torch.testing.assert_close(ours, loss.detach(), rtol=1e-12, atol=0)
        assert torch.equal(correct, logits.argmax(1) == y)
        for (name, parameter), other in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert parameter.grad.stride() == parameter.stride(), name  # the optimizer is slow on any other layout
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-8, atol=1e-11 * other.grad.abs().max().item())
        for buffer, other in zip(model.buffers(), expected.buffers(), strict=True):
            torch.testing.assert_close(buffer, other, rtol=1e-12, atol=1e-14)
        assert model.norm.num_batches_tracked == seed
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.1)


def test_in_float32_it_is_as_exact_as_the_framework():
    """Both differ from float64 by rounding, which takes some activations across 0."""
    model, x, y = network(0.25, torch.float32), images(64, dtype=torch.float32), torch.arange(64) % 10
    exact, framework = copy.deepcopy(model).double(), copy.deepcopy(model)
    for twin, batch in ((exact, x.double()), (framework, x)):
        F.cross_entropy(twin(batch), y).backward()
    training_step.of(model, x)(x, y)
    errors = {}
    for name, twin in (("ours", model), ("framework", framework)):
        gradients = [torch.cat([each.grad.double().flatten() for each in which.parameters()]) for which in (twin, exact)]
        errors[name] = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    assert errors["ours"] < max(1e-5, 3 * errors["framework"])
    assert errors["ours"] < 0.03


def test_a_value_that_is_no_number_is_not_lost():
    model, x, y = network(dtype=torch.float32), images(16, dtype=torch.float32), torch.arange(16) % 10
    step = training_step.of(model, x)
    with torch.no_grad():
        model.blocks[3].conv1.weight[0, 0, 0, 0] = torch.nan
    loss, _ = step(x, y)
    assert loss.isnan()
    assert model.stem.weight.grad.isnan().any()


def changed(change, model: models.WideResNet | None = None) -> models.WideResNet:
    model = model or network(dtype=torch.float32)
    change(model)
    return model


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).abs()


LEFT_TO_THE_FRAMEWORK = {
    "eval mode": lambda: network(dtype=torch.float32).eval(),
    "one normalisation in eval mode": lambda: changed(lambda m: m.blocks[2].norm1.eval()),
    "a frozen layer": lambda: changed(lambda m: m.blocks[2].conv1.requires_grad_(False)),
    "tied weights": lambda: changed(lambda m: setattr(m.blocks[2].conv1, "weight", m.blocks[2].conv2.weight)),
    "another eps": lambda: changed(lambda m: setattr(m.blocks[2].norm1, "eps", 0.1)),
    "another momentum": lambda: changed(lambda m: setattr(m.norm, "momentum", 0.5)),
    "cumulative moments": lambda: changed(
        lambda m: [setattr(each, "momentum", None) for each in m.modules() if isinstance(each, nn.BatchNorm2d)]
    ),
    "a hook": lambda: changed(lambda m: m.blocks[1].conv2.register_forward_hook(lambda *_: None)),
    "a layer of another class": lambda: changed(lambda m: setattr(m.blocks[1].conv2, "__class__", Own)),
    "a forward of its own": lambda: changed(lambda m: setattr(m, "forward", lambda x: x.mean((1, 2, 3))[:, None])),
    "two types": lambda: changed(lambda m: m.head.double()),
    "bfloat16": lambda: network(dtype=torch.bfloat16),
    "a wide network": lambda: models.wide_resnet28(1.0).train(),
    "another network": lambda: models.lenet5(0.125, in_channels=3, image_size=32).train(),
}


@pytest.mark.parametrize("name", LEFT_TO_THE_FRAMEWORK)
def test_any_other_network_is_left_to_the_framework(name):
    model = LEFT_TO_THE_FRAMEWORK[name]()
    before = copy.deepcopy(model.state_dict())
    assert training_step.of(model, images(16, dtype=next(model.parameters()).dtype)) is None
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("x", [images(15, dtype=torch.float32), images(0, dtype=torch.float32), images(16)[..., :16].float()])
def test_batches_that_do_not_fill_the_vectors_are_left_to_the_framework(x):
    assert training_step.of(network(dtype=torch.float32), x) is None


def test_a_network_that_no_rule_tells_apart_is_found_by_its_logits(monkeypatch):
    model, x = network(dtype=torch.float32), images(16, dtype=torch.float32)
    assert training_step.of(model, x) is not None
    monkeypatch.setattr(
        models.WideResNet, "forward", lambda self, x: self.head(self.norm(self.blocks(self.stem(x))).amax((2, 3)))
    )
    assert training_step.of(model, x) is None


@pytest.mark.parametrize("attack", [None, {"eps": 8 / 255, "step_size": 4 / 255, "num_steps": 2, "warmup": 0.5}])
def test_training_takes_it_and_ends_at_the_same_weights(monkeypatch, attack):
    """In float64, where rounding has no time to grow."""
    y = torch.arange(64) % 2
    x = 0.5 * images(64, 16) + 0.5 * y[:, None, None, None]
    settings = {
        "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": "constant", "weight_decay": 2e-4, "steps": 12,
        "batch_size": 16, "augment": "crop-flip", "attack": attack,
    }  # fmt: skip
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)
    steps_taken = []
    own = training_step.TrainingStep.__call__
    monkeypatch.setattr(
        training_step.TrainingStep, "__call__", lambda self, x, y: steps_taken.append(len(x)) or own(self, x, y)
    )
    models_, curves, taken_by = [], [], []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(forms, "training_step_of", lambda model, x: None)
        models_.append(network(1 / 16, classes=2))
        done = training.train(models_[-1], x, y, seed=0, **settings)
        curves.append(done.curve)
        taken_by.append(done.step)
    assert taken_by == ["compiled", "framework"]
    assert steps_taken == [16] * 12
    for (key, value), other in zip(models_[0].state_dict().items(), models_[1].state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-8, msg=key)
    assert curves[0]["loss"] == pytest.approx(curves[1]["loss"], rel=1e-8)
