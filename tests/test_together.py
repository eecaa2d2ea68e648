"""Trainings of one shape together: each follows its training alone, goes on after a kill, and fails for itself."""

import copy
import gc
import math
import shutil
import weakref
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from killing import Killed, kill_at
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib import attacks, models, training
from lib.base import checkpoints, recipe
from lib.fast import forms, stacked
from lib.run import cost
from lib.training import Member

STEPS = 7  # one epoch of four batches, and most of another
ADAM = {"optimizer": "adam", "lr": 0.01, "schedule": "constant", "weight_decay": 0.002, "steps": STEPS, "batch_size": 8}
SGD = {**ADAM, "optimizer": "sgd", "momentum": 0.9, "lr": 0.1, "schedule": "one-cycle", "augment": "crop-flip"}
ATTACK = {"norm": "linf", "eps": 0.1, "step_size": 0.05, "num_steps": 2, "random_start": True, "bounds": (0.0, 1.0)}
ATTACK |= {"warmup": 0.3, "precision": "float32"}
NETWORKS = {
    "lenet5": (partial(models.lenet5, 1 / 16, in_channels=3, classes=2, image_size=16), ADAM),
    "wide_resnet28": (partial(models.wide_resnet28, 1 / 8, classes=2), SGD),
}


@pytest.fixture(autouse=True)
def any_outcome(monkeypatch):
    """A training that ends at chance has not failed: a few steps may lead no farther."""
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)


def members(name: str, count: int = 3, folder=None) -> list[Member]:
    """Trainings of other data, other initial weights and other seeds."""
    listed = []
    for i in range(count):
        torch.manual_seed(10 + i)
        model, y = NETWORKS[name][0]().double(), torch.arange(36) % 2
        x = torch.rand(36, 3, 16, 16, dtype=torch.double) * 0.5 + y.view(-1, 1, 1, 1) * 0.5
        listed.append(Member(model, x, y, 5 + i, folder and folder / f"{i}.safetensors"))
    return listed


def alone(member: Member, settings: dict) -> training.Training:
    return training.train(
        member.model, member.x, member.y, seed=member.seed, checkpoint=member.checkpoint, **settings
    )  # fmt: skip


def assert_same(one: nn.Module, other: nn.Module, atol: float = 1e-9) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=0, atol=atol), name


@pytest.fixture(params=[(name, kind) for name in NETWORKS for kind in ("standard", "pgd")], ids="-".join)
def case(request) -> tuple[str, dict]:
    name, kind = request.param
    return name, {**NETWORKS[name][1], "attack": ATTACK if kind == "pgd" else None}


def test_each_member_follows_its_training_alone(case):
    name, settings = case
    expected, group = members(name), members(name)
    curves = [alone(member, settings).curve for member in expected]
    done = training.train_together(group, **settings)
    for one, other, curve, result in zip(expected, group, curves, done, strict=True):
        assert_same(one.model, other.model)
        assert not other.model.training
        assert result.curve["step"] == curve["step"]
        assert result.curve["loss"] == pytest.approx(curve["loss"], abs=1e-9)
        assert result.curve["accuracy"] == pytest.approx(curve["accuracy"], abs=1e-6)
        assert not math.isclose(curve["loss"][-1], curves[0]["loss"][-1]) or curve is curves[0]


def test_a_group_goes_on_from_checkpoints_even_of_different_steps(case, monkeypatch, tmp_path):
    """Killed between the writes of two checkpoints: a member is behind, one has none, and one was trained alone meanwhile."""
    name, settings = case
    settings = {**settings, "checkpoint_seconds": 0.0}
    expected = members(name, 4)
    training.train_together(expected, **{**settings, "checkpoint_seconds": None})
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(Killed):
            training.train_together(members(name, 4, tmp_path), **settings)
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "early")
    for at, count in ((4, 4), (5, 1)):
        with monkeypatch.context() as patch:
            kill_at(patch, at)
            with pytest.raises(Killed):
                training.train_together(members(name, 4, tmp_path)[-count:], **settings)
    shutil.move(tmp_path / "early", tmp_path / "0.safetensors")
    (tmp_path / "1.safetensors").unlink()
    steps = [checkpoints.load_tensors(path, "cpu")[1]["step"] for path in sorted(tmp_path.glob("*.safetensors"))]
    assert steps == [2, 4, 5]
    group = members(name, 4, tmp_path)
    done = training.train_together(group, **settings)
    for one, other in zip(expected, group, strict=True):
        assert_same(one.model, other.model)
    assert all(result.curve["step"] == list(range(1, STEPS + 1)) for result in done)


def test_a_member_goes_on_alone(case, monkeypatch, tmp_path):
    name, settings = case
    expected = members(name)
    for member in expected:
        alone(member, settings)
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(Killed):
            training.train_together(members(name, folder=tmp_path), **settings, checkpoint_seconds=0.0)
    resumed = members(name, folder=tmp_path)
    for one, other in zip(expected, resumed, strict=True):
        alone(other, settings)
        assert_same(one.model, other.model)


@pytest.mark.parametrize("attack", [None, ATTACK], ids=["standard", "pgd"])
def test_a_member_that_fails_leaves_the_others_at_work(attack, tmp_path):
    settings = {**ADAM, "attack": attack}
    expected, group = members("lenet5"), members("lenet5", folder=tmp_path)
    with torch.no_grad():
        group[1].model[-1].bias.fill_(1e308)
        group[1].model[-1].bias.mul_(10)
    for member in (expected[0], expected[2]):
        alone(member, settings)
    first, failed, last = training.train_together(group, **settings, checkpoint_seconds=0.0)
    assert isinstance(failed, training.TrainingFailedError)
    assert failed.reason == "non-finite loss between steps 0 and 0"
    for i, done in ((0, first), (2, last)):
        assert done.curve["step"] == list(range(1, STEPS + 1))
        assert_same(expected[i].model, group[i].model)


def test_a_gradient_that_is_not_finite_fails_its_member():
    """Its loss may be: only the attack sees it."""

    def total(n: int) -> torch.Tensor:  # once it has failed, two members are left
        return torch.tensor([0.0, math.nan, 0.0] * 8) if n == 24 else torch.zeros(n)

    group = members("lenet5")
    with pytest.MonkeyPatch.context() as patch:
        steps = training.attacks.steps
        patch.setattr(training.attacks, "steps", lambda network, x, *a, **k: (steps(network, x, *a, **k)[0], total(len(x))))
        done = training.train_together(group, **ADAM, attack=ATTACK)
    assert [isinstance(result, training.TrainingFailedError) for result in done] == [False, True, False]


def test_a_member_at_chance_fails_alone(monkeypatch):
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 1.2)
    group = members("lenet5")
    group[1] = Member(group[1].model, torch.full_like(group[1].x, 0.5), group[1].y, 0)  # the same image in both classes
    done = training.train_together(group, **{**ADAM, "steps": 60, "lr": 0.003})
    assert [isinstance(result, training.TrainingFailedError) for result in done] == [False, True, False]
    assert "ends at chance" in str(done[1])


# --- the network of several ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build", [*(build for build, _ in NETWORKS.values()), partial(models.small_convnet, 1 / 4, in_channels=3, image_size=16)]
)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_stacked_networks_are_the_networks(build, mode):
    networks = []
    for seed in range(3):
        torch.manual_seed(seed)
        networks.append(build().double().train(mode))
    x = torch.rand(5, 3, 3, 16, 16, dtype=torch.double)
    network = stacked.stacked(networks)
    logits = network(x.flatten(0, 1)).view(5, 3, -1)
    for i, own in enumerate(networks):
        assert torch.allclose(logits[:, i], own(x[:, i]), atol=1e-12)
        part = stacked.part(network.body.state_dict(), i, 3)
        assert all(torch.allclose(part[name], value, atol=1e-12) for name, value in own.state_dict().items())


def test_only_known_layers_are_stacked():
    assert stacked.can_stack(models.lenet5(1 / 8))
    strange = nn.Sequential(nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 2))
    assert not stacked.can_stack(strange)
    with pytest.raises(ValueError, match="have layers that can be stacked, given LayerNorm"):
        stacked.stacked([strange, strange])
    with pytest.raises(ValueError, match="must have the same shape, given 2 that differ"):
        stacked.stacked([models.lenet5(1 / 8), models.lenet5(1 / 4)])


def test_weights_that_are_frozen_or_tied_are_not_stacked():
    """A stacked layer is trained as a whole, so it would train frozen weights and pull tied ones apart."""
    frozen, tied = models.lenet5(1 / 8), nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    frozen[0].requires_grad_(False)
    tied[2].weight = tied[1].weight
    for model, said in ((frozen, "given 0.weight without gradient"), (tied, "given 2.weight tied to 1.weight")):
        assert not stacked.can_stack(model)
        with pytest.raises(ValueError, match=said):
            stacked.stacked([model, model])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attack": {**ATTACK, "precision": "bfloat16"}}, "need the cross entropy, or the paper's attack in float32"),
        ({"robust_loss": lambda *_: None}, "need the cross entropy, or the paper's attack in float32"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'"),
        ({"batch_size": 37}, "batch_size must be from 1 to the 36 images there are, given 37"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_together_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        training.train_together(members("lenet5"), **{**ADAM, **changed})


def test_as_many_images_each():
    group = members("lenet5")
    group[2] = Member(group[2].model, group[2].x[:30], group[2].y[:30], 0)
    with pytest.raises(ValueError, match="the same number of images, given 30 and 36"):
        training.train_together(group, **ADAM)
    with pytest.raises(ValueError, match="at least one training is needed, given none"):
        training.train_together([], **ADAM)


# --- what a graph needs, as far as a processor can tell -----------------------------------------------------------------


@pytest.fixture
def captures(monkeypatch) -> list:
    """The functions that were captured. As on a GPU, but for the graph itself, in whose place the function is called again."""
    functions = []
    monkeypatch.setattr(forms, "captures", lambda model, x: True)
    monkeypatch.setattr(forms, "_graph_of", lambda function, device: (function(), functions.append(function), function)[2])
    return functions


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_is_captured_once_and_capturing_leaves_no_trace(case, count, request):
    """The optimizer's update in one kernel, its rate in a tensor; a run alone is captured as well."""
    name, settings = case
    expected, group = members(name, count), members(name, count)
    for member in expected:
        alone(member, settings)
    captures = request.getfixturevalue("captures")
    training.train_together(group, **settings)
    assert len(captures) == 1
    for one, other in zip(expected, group, strict=True):
        assert_same(one.model, other.model, atol=1e-5)  # a rate in a tensor is in float32


def test_a_captured_step_that_does_nothing_is_noticed(captures, monkeypatch):
    monkeypatch.setattr(forms, "_graph_of", lambda function, device: lambda: None)
    with pytest.raises(RuntimeError, match="a captured CUDA graph gives other numbers"):
        training.train_together(members("lenet5"), **ADAM)


@pytest.mark.usefixtures("captures")
def test_a_captured_training_goes_on(case, monkeypatch, tmp_path):
    name, settings = case
    expected, group = members(name, 1), members(name, 1, tmp_path)
    training.train_together(expected, **settings)
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(Killed):
            training.train_together(members(name, 1, tmp_path), **settings, checkpoint_seconds=0.0)
    training.train_together(group, **settings, checkpoint_seconds=0.0)
    assert_same(expected[0].model, group[0].model)


def test_a_graph_is_captured_and_replayed_on_its_own_device(monkeypatch):
    """On a pretended machine of two GPUs. torch's own stream for captures is of the device that captured first."""
    current, first, devices = ["cuda:0"], [], []

    @contextmanager
    def on(device):
        current.append(str(device))
        yield
        current.pop()

    def stream() -> SimpleNamespace:
        return SimpleNamespace(device=current[-1], wait_stream=lambda other: None)

    @contextmanager
    def graph(which, stream=None):
        first.append(current[-1])
        with on(stream.device if stream else first[0]):
            yield

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: on(stream.device))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: devices.append(current[-1])))
    for device in ("cuda:0", "cuda:1"):
        replay = forms._graph_of(lambda: devices.append(current[-1]), torch.device(device))
        replay()
        assert devices == [device] * 4  # twice to warm up, captured, replayed
        assert current == ["cuda:0"]
        devices.clear()


class Looks(TorchDispatchMode):
    """Counts what the processor would wait for: values, and results whose size depends on values."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        masks = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        self.count += masks or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")
        return function(*args, **(kwargs or {}))


@pytest.mark.usefixtures("captures")
@pytest.mark.parametrize("count", [1, 3])
def test_no_step_of_a_captured_training_waits_for_the_device(case, count):
    """But for a look at the sums at each of the curve's hundred points, and at a checkpoint."""
    name, settings = case
    counts = []
    for steps in (1, STEPS, 2 * STEPS):  # the first one also has the gradient of the first layer checked, on a processor alone
        with Looks() as looks:
            training.train_together(members(name, count), **{**settings, "steps": steps})
        counts.append(looks.count)
    assert counts[1] == counts[2] > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_group_takes_as_many_launches_as_a_run(name):
    """So `cost` counts them; what the framework's own kernels launch besides, only a GPU tells."""
    networks = [member.model for member in members(name)]
    one, counts = torch.tensor(0.1, dtype=torch.double), []
    for network, images in ((networks[0], 4), (stacked.stacked(networks), 12)):
        x, y = torch.rand(images, 3, 16, 16, dtype=torch.double), torch.zeros(images, dtype=torch.long)
        with attacks.frozen(network), cost._Kernels() as kernels:
            attacks.steps(network, x, y, x, eps=one, step_size=one, num_steps=1, bounds=(0.0, 1.0))
        counts.append(kernels.launches)
    assert counts[1] <= 1.1 * counts[0]


def test_the_memory_of_one_group_is_free_for_the_next(monkeypatch):
    """A graph keeps what its step has computed: after a failure the rest must not need it twice."""
    alive = []

    class Watched(training._StackedSteps):
        def __init__(self, *arguments):
            gc.collect()
            assert not any(earlier() for earlier in alive)
            alive.append(weakref.ref(self))
            super().__init__(*arguments)

    monkeypatch.setattr(training, "_StackedSteps", Watched)
    monkeypatch.setattr(forms, "captures", lambda model, x: True)
    monkeypatch.setattr(forms, "_graph_of", lambda function, device: (function(), function)[1])
    group = members("lenet5")
    with torch.no_grad():
        group[1].model[-1].bias.fill_(math.nan)
    training.train_together(group, **ADAM)
    assert len(alive) == 2


def test_a_resumed_optimizer_has_its_state_laid_out_as_the_weights(monkeypatch, tmp_path):
    """Else each of its steps, and each copy, goes through memory in two orders."""
    settings = NETWORKS["wide_resnet28"][1]
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(Killed):
            training.train_together(members("wide_resnet28", 1, tmp_path), **settings, checkpoint_seconds=0.0)
    (member,) = members("wide_resnet28", 1, tmp_path)
    course = training._Course(member, recipe.optimizer_of("sgd", member.model, 0.1, 0.0, 0.9), STEPS)
    buffers = {weight: slots["momentum_buffer"] for weight, slots in course.algorithm.state.items()}
    assert any(buffer.any() for buffer in buffers.values())
    assert any(not weight.is_contiguous() for weight in buffers)  # channels last
    assert all(buffer.stride() == weight.stride() for weight, buffer in buffers.items())


def test_a_copy_in_lower_precision_is_renewed_in_one_launch(monkeypatch):
    """A list of tensors of one type is; batch normalisation's counts are of another."""
    model = models.wide_resnet28(1 / 8, classes=2).eval()
    lists, copied = [], torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda to, source: (lists.append((to, source)), copied(to, source)))
    monkeypatch.setattr(forms, "capture", lambda function, changed: function)
    x, y = torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)
    state = attacks._State.begin(x, y, torch.zeros_like(x), 0.1, 0.05, (0.0, 1.0))
    step = forms._CapturedStep(model, copy.copy(state), "bfloat16")
    with torch.no_grad():
        model.head.bias.fill_(3.0)
    step.run(state, 1)
    ((to, source),) = lists
    assert ({t.dtype for t in to}, {t.dtype for t in source}) == ({torch.bfloat16}, {torch.float32})
    assert step.low_precision.head.bias.eq(3.0).all()
    assert step.low_precision.blocks[0].norm1.running_var.dtype == torch.bfloat16
