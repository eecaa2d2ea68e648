"""The compiled attack: the same numbers as the network's own, and no network attacked as another one."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from lib import attacks, models
from lib.fast import forms, networks, program, vectors

pytestmark = pytest.mark.skipif(not vectors.has_avx2(), reason="a processor without AVX2 takes the framework's way")
ATTACK = {"eps": 0.1, "step_size": 0.02, "num_steps": 5}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(n, *shape, generator=seeded(), dtype=dtype)


def lived_in(model: nn.Module) -> nn.Module:
    """In eval mode, batch normalisation as after a training."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=seeded(1))
            layer.running_var.uniform_(0.2, 3, generator=seeded(2))
            layer.weight.data.normal_(generator=seeded(3))
            layer.bias.data.normal_(generator=seeded(4))
    return model.eval()


NETWORKS = {
    "lenet5, w=1/32": (lambda: models.lenet5(1 / 32), (1, 28, 28)),
    "lenet5, w=.1": (lambda: models.lenet5(0.1), (1, 28, 28)),
    "lenet5, w=.5": (lambda: models.lenet5(0.5), (1, 28, 28)),
    "lenet5, 3 colours, 7 classes": (lambda: models.lenet5(0.125, in_channels=3, classes=7, image_size=32), (3, 32, 32)),
    "lenet5, 4 colours, size 16": (lambda: models.lenet5(0.125, in_channels=4, image_size=16), (4, 16, 16)),
    "wide_resnet28, w=.0625": (lambda: models.wide_resnet28(1 / 16), (3, 32, 32)),
    "wide_resnet28, w=.25": (lambda: models.wide_resnet28(0.25), (3, 32, 32)),
    "wide_resnet28, w=.5, size 16": (lambda: models.wide_resnet28(0.5, classes=3), (3, 16, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_gradient_and_attack_are_the_networks_own(name):
    """In float64, where the order of sums leaves nothing to tell apart; batches that fill no vector, and more than one."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = lived_in(build()).double()
    for n in (1, 5, 11):
        x = images(n, shape)
        compiled = program.of(model, x)
        assert compiled is not None
        results = []
        for function in (model, compiled):
            z = x.clone().requires_grad_()
            logits = function(z)
            weights = torch.rand(logits.shape, generator=seeded(5), dtype=torch.float64)
            results.append((logits.detach(), torch.autograd.grad((logits * weights).sum(), z)[0]))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    y = torch.arange(11) % logits.shape[1]
    start = attacks.random_delta(x, 0.1, seeded(6))
    ours, theirs = (attacks.pgd(model, x, y, start=start, engine=engine, **ATTACK) for engine in attacks.ENGINES)
    assert (ours - theirs).abs().max() <= 1e-12


def test_float32_agrees_but_for_rounding():
    torch.manual_seed(0)
    model, x = models.lenet5(0.125), images(200, (1, 28, 28), torch.float32)
    y, start = torch.arange(200) % 10, attacks.random_delta(x, 0.3, seeded())
    adversarial = [
        attacks.pgd(model, x, y, start=start, engine=engine, eps=0.3, step_size=0.01, num_steps=1) for engine in attacks.ENGINES
    ]
    assert ((adversarial[0] - adversarial[1]).abs() > 1e-6).double().mean() < 1e-3
    assert attacks.engine_of(model, x) == "compiled"


def test_any_number_of_threads_gives_the_same_images(monkeypatch):
    model, x, y = models.lenet5(0.125).eval(), images(37, (1, 28, 28), torch.float32), torch.arange(37) % 10
    adversarial = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        adversarial.append(attacks.pgd(model, x, y, start=torch.zeros_like(x), **ATTACK))
    assert torch.equal(adversarial[0], adversarial[1])
    assert torch.equal(adversarial[0], adversarial[2])


# --- no network is attacked as another one ----------------------------------------------------------------------------------


class Doubled(models.LeNet5):
    def forward(self, x):
        return super().forward(1 - x)


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).abs()


def lenet5() -> models.LeNet5:
    torch.manual_seed(0)
    return models.lenet5(0.25)


def wide_resnet() -> models.WideResNet:
    torch.manual_seed(0)
    return lived_in(models.wide_resnet28(0.25))


def changed(model: nn.Module, change) -> nn.Module:
    change(model)
    return model


def own_forward(model):
    original = model.forward
    model.forward = lambda x: original(1 - x)


def stacked(model, *layers):
    for layer in layers:
        model.append(layer)


CHANGED = {
    "Tanh for ReLU": lambda: changed(lenet5(), lambda m: m.__setitem__(2, nn.Tanh())),
    "LeakyReLU for ReLU": lambda: changed(lenet5(), lambda m: m.__setitem__(5, nn.LeakyReLU(0.3))),
    "average for maximum": lambda: changed(lenet5(), lambda m: m.__setitem__(1, nn.AvgPool2d(2))),
    "another padding": lambda: changed(lenet5(), lambda m: setattr(m[3], "padding_mode", "circular")),
    "a layer added": lambda: changed(lenet5(), lambda m: stacked(m, nn.Softmax(1))),
    "a subclass": lambda: changed(lenet5(), lambda m: setattr(m, "__class__", Doubled)),
    "a subclass of a layer": lambda: changed(lenet5(), lambda m: setattr(m[3], "__class__", Own)),
    "a forward of the instance": lambda: changed(lenet5(), own_forward),
    "a forward of a layer": lambda: changed(lenet5(), lambda m: own_forward(m[9])),
    "a hook": lambda: changed(lenet5(), lambda m: m[0].register_forward_hook(lambda module, args, out: -out)),
    "a hook before": lambda: changed(lenet5(), lambda m: m.register_forward_pre_hook(lambda module, args: (1 - args[0],))),
    "a hook on the gradient": lambda: changed(
        lenet5(), lambda m: m[3].register_full_backward_hook(lambda module, to_x, to_out: (-to_x[0],))
    ),
    "a parametrization": lambda: changed(lenet5(), lambda m: parametrizations.weight_norm(m[7])),
    "pruned": lambda: changed(lenet5(), lambda m: prune.l1_unstructured(m[9], "weight", 0.5)),
    "wrapped": lambda: nn.Sequential(lenet5(), nn.Softmax(1)),
    "behind a ramp": lambda: models.Ramped(lenet5(), 10),
    "a WRN-28's shortcut": lambda: changed(wide_resnet(), lambda m: setattr(m.blocks[0], "shortcut", nn.AvgPool2d(1))),
    "a WRN-28's normalisation": lambda: changed(wide_resnet(), lambda m: setattr(m, "norm", nn.GroupNorm(1, 16))),
    "a WRN-28's standardisation": lambda: changed(wide_resnet(), lambda m: setattr(m, "standardize", nn.Identity())),
    "a WRN-28's block": lambda: changed(wide_resnet(), lambda m: own_forward(m.blocks[3])),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_network_is_attacked_as_itself(name):
    try:
        model = CHANGED[name]()
    except (RuntimeError, ValueError) as error:  # pragma: no cover - a change that cannot be made tests nothing
        pytest.fail(f"{name}: {error}")
    x = images(9, (3, 32, 32) if "WRN" in name else (1, 28, 28), torch.float32)
    y, start = torch.arange(9), attacks.random_delta(x, 0.1, seeded())
    model.eval().double()
    try:
        model(x.double())
    except RuntimeError:
        assert program.of(model, x.double()) is None
        return
    ours, theirs = (
        attacks.pgd(model, x.double(), y, start=start.double(), engine=engine, **ATTACK) for engine in attacks.ENGINES
    )
    assert program.of(model, x.double()) is None
    assert (ours - theirs).abs().max() <= 1e-12


@pytest.mark.parametrize("name", ["lenet5", "wide_resnet28"])
def test_what_no_rule_foresees_shows_in_the_logits(monkeypatch, name):
    """The classes themselves are changed, so that every rule holds; the logits differ, and the network's own way is taken."""
    model, shape = (lenet5(), (1, 28, 28)) if name == "lenet5" else (wide_resnet(), (3, 32, 32))
    model.eval().double()
    x, y = images(5, shape), torch.arange(5)
    assert program.of(model, x) is not None
    monkeypatch.setattr(
        nn.ReLU if name == "lenet5" else models.PerImageStandardization, "forward", lambda self, z: torch.tanh(z)
    )
    assert program.of(model, x) is None
    start = attacks.random_delta(x, 0.1, seeded())
    ours, theirs = (attacks.pgd(model, x, y, start=start, engine=engine, **ATTACK) for engine in attacks.ENGINES)
    assert (ours - theirs).abs().max() <= 1e-12


@pytest.mark.parametrize("precision", attacks.PRECISIONS)
@pytest.mark.parametrize("name", ["lenet5", "wide_resnet28"])
def test_a_wide_network_is_specialized_only_as_itself(name, precision):
    torch.manual_seed(0)
    model = models.lenet5(1.0).eval() if name == "lenet5" else lived_in(models.wide_resnet28(1.0))
    x = images(3, (1, 28, 28) if name == "lenet5" else (3, 32, 32), torch.float32)
    assert program.of(model, x) is None
    form = program.specialized(model, x)
    assert form is not model
    ours, theirs = (forms.in_precision(network, precision)[0](x) for network in (form, model))
    assert (ours - theirs).abs().max() <= (1e-4 if precision == "float32" else 0.05) * theirs.abs().max()
    own_forward(model[2] if name == "lenet5" else model.blocks[1])
    assert program.specialized(model, x) is model


@pytest.mark.parametrize("name", ["lenet5", "wide_resnet28"])
def test_what_the_compiled_passes_do_not_take_is_left_to_the_framework(name):
    model = models.lenet5(1.0).eval() if name == "lenet5" else lived_in(models.wide_resnet28(1.0))
    x = images(2, (1, 28, 28) if name == "lenet5" else (3, 32, 32), torch.float32)
    assert program.specialized(model, x[:0]) is model
    assert program.specialized(model.half(), x.half()) is model


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ((2, 1, 30, 30), torch.float32),
        ((2, 1, 28, 32), torch.float32),
        ((0, 1, 28, 28), torch.float32),
        ((2, 1, 28, 28), torch.bfloat16),
    ],
    ids=str,
)
def test_what_the_tiles_do_not_take_is_left_to_the_framework(x, dtype):
    assert program.of(models.lenet5(0.125).to(dtype), torch.zeros(x, dtype=dtype)) is None


def test_weights_that_change_in_place_are_attacked_as_they_are():
    model, x, y = lenet5().eval(), images(9, (1, 28, 28), torch.float32), torch.arange(9)
    before = attacks.pgd(model, x, y, start=torch.zeros_like(x), **ATTACK)
    model[9].weight.data.neg_()
    after, theirs = (attacks.pgd(model, x, y, start=torch.zeros_like(x), engine=engine, **ATTACK) for engine in attacks.ENGINES)
    assert not torch.equal(before, after)
    assert ((after - theirs).abs() > 1e-6).double().mean() < 1e-3


# --- what is compiled trusts its input: it is checked before ----------------------------------------------------------------


@pytest.mark.parametrize("y", [[0, 10], [-1, 0]])
def test_labels_that_are_no_class_are_refused(y):
    x = images(2, (1, 28, 28), torch.float32)
    with pytest.raises(ValueError, match="labels must be from 0 to 9, given labels from"):
        program.of(lenet5(), x).attack(x, torch.tensor(y), x, x, 0.1, 1)


@pytest.mark.parametrize("what", ["weight", "image"])
def test_what_is_no_number_is_told(what):
    model, x = lenet5(), images(10, (1, 28, 28), torch.float32)
    if what == "weight":
        model[3].weight.data[0, 0, 0, 0] = torch.nan
    else:
        x[4, 0, 3, 3] = torch.nan
    compiled = program.of(model, x)
    assert not compiled.attack(x.clone(), torch.arange(10), x - 0.1, x + 0.1, 0.1, 1)


def test_a_default_device_is_not_asked():
    model, x = lenet5(), images(3, (1, 28, 28), torch.float32)
    expected = attacks.pgd(model, x, torch.arange(3), start=torch.zeros_like(x), **ATTACK)
    networks._lenet5.cache_clear()
    y, zeros = torch.arange(3), torch.zeros_like(x)
    with torch.device("meta"):
        compiled = program.of(model, x)
        out = x.clone()
        compiled.attack(out, y, *attacks._ball(x, ATTACK["eps"], (0.0, 1.0)), ATTACK["step_size"], ATTACK["num_steps"])
    assert torch.equal(out, expected)
    assert torch.equal(zeros, torch.zeros(3, 1, 28, 28))


def test_two_threads_attack_one_model_as_one_does():
    model, x, y = lenet5().eval().requires_grad_(False), images(20, (1, 28, 28), torch.float32), torch.arange(20) % 10
    compiled = program.of(model, x)
    bounds = attacks._ball(x, 0.1, (0.0, 1.0))

    def attacked() -> torch.Tensor:
        out = x.clone()
        compiled.attack(out, y, *bounds, 0.02, 5)
        return out

    expected, adversarial = attacked(), []
    threads = [threading.Thread(target=lambda: adversarial.append(attacked())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(adversarial) == 4
    assert all(torch.equal(images_, expected) for images_ in adversarial)


def test_the_gradient_may_be_taken_more_than_once():
    model, x = lenet5().eval().double(), images(9, (1, 28, 28))
    gradients = []
    for function in (model, program.of(model, x)):
        z = x.clone().requires_grad_()
        logits = function(z)
        gradients.append([torch.autograd.grad(logits[:, c].sum(), z, retain_graph=True)[0] for c in (0, 3, 0)])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_other_losses_go_through_the_compiled_gradient():
    """Early stop, the margin loss and momentum take their steps themselves, on the compiled network's gradient."""
    model, x, y = lenet5().eval().double(), images(9, (1, 28, 28)), torch.arange(9)
    start = attacks.random_delta(x, 0.1, seeded())
    frozen = copy.deepcopy(model).requires_grad_(False)
    wrapped = lambda z: frozen(z)  # noqa: E731 - a callable has no program
    for settings in ({"early_stop": True}, {"loss": "margin"}, {"momentum": 1.0}):
        ours = attacks.pgd(model, x, y, start=start, **ATTACK, **settings)
        theirs = attacks.pgd(wrapped, x, y, start=start, **ATTACK, **settings)
        assert (ours - theirs).abs().max() <= 1e-9
    assert F.cross_entropy(model(ours), y) > F.cross_entropy(model(x), y)
