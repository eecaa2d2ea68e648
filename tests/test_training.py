"""The training loop: deterministic, resumable bit for bit, and the schedules of the literature."""

import errno
import itertools
import json
import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from killing import Killed, kill_at
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lib import attacks, models, training
from lib.base import checkpoints

STEPS = 14
ADAM = {"optimizer": "adam", "lr": 0.01, "schedule": "constant", "weight_decay": 0.0, "steps": STEPS, "batch_size": 8}
SGD = {**ADAM, "optimizer": "sgd", "momentum": 0.9, "lr": 0.1, "schedule": "one-cycle", "weight_decay": 2e-4}
ATTACK = {"norm": "linf", "eps": 0.1, "step_size": 0.05, "num_steps": 2, "random_start": True, "bounds": (0.0, 1.0)}


@pytest.fixture
def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """36 dark and bright images of two classes, learnt at once."""
    y = torch.arange(36) % 2
    noise = torch.rand(36, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return (noise + y.view(-1, 1, 1, 1)) / 2, y


def lenet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.lenet5(1 / 16, in_channels=3, classes=2, image_size=16)


def wide_resnet(seed: int = 0) -> nn.Module:
    """A network with batch norms; its first convolution sees raw pixels, or dark and bright would look alike."""
    torch.manual_seed(seed)
    network = models.wide_resnet28(1 / 16, classes=2)
    network.standardize = nn.Identity()
    return network


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Kind(NamedTuple):
    name: str
    network: object
    settings: dict


KINDS = [
    Kind("adam-standard", lenet, ADAM),
    Kind("adam-pgd", lenet, {**ADAM, "attack": {**ATTACK, "warmup": 0.3}}),
    Kind("sgd-standard", wide_resnet, {**SGD, "augment": "crop-flip"}),
    Kind("sgd-pgd", wide_resnet, {**SGD, "augment": "crop-flip", "attack": {**ATTACK, "warmup": 0}}),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request, any_outcome) -> Kind:
    return request.param


@pytest.fixture
def any_outcome(monkeypatch):
    """A training that ends at chance has not failed: a few steps may lead no farther."""
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)


def test_same_seed_same_weights(kind, examples):
    networks = [kind.network() for _ in range(3)]
    done = [
        training.train(network, *examples, **kind.settings, seed=seed)
        for network, seed in zip(networks, (5, 5, 6), strict=True)
    ]
    assert equal(networks[0], networks[1])
    assert done[0].curve == done[1].curve
    assert not equal(networks[0], networks[2])
    assert not equal(networks[0], kind.network())
    assert not networks[0].training


def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(kind, examples, monkeypatch, tmp_path):
    """Killed twice: in the middle of the second epoch (of four batches), and at the start of the fourth."""
    whole, parts = kind.network(), kind.network(seed=1)
    uninterrupted = training.train(whole, *examples, **kind.settings, seed=5)
    keywords = {**kind.settings, "seed": 5, "checkpoint": tmp_path / "a" / "training.safetensors", "checkpoint_seconds": 0.0}
    first = kind.network()
    for step, network in ((6, first), (12, kind.network(seed=2))):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                training.train(network, *examples, **keywords)
    steps = []
    monkeypatch.setattr(
        training, "learning_rate", lambda at, _was=training.learning_rate, **k: (steps.append(at), _was(at, **k))[1]
    )
    resumed = training.train(parts, *examples, **keywords)
    assert steps == [12, 13]
    assert equal(parts, whole)
    assert resumed.curve == uninterrupted.curve
    assert resumed.seconds > 0


class Unusual(nn.Module):
    """A network with frozen, unused or tied weights, with weights that rest at first, or with dropout."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.first, self.second, self.head = kind, nn.Linear(768, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("calls", torch.tensor(0))
        if kind == "frozen":
            self.first.requires_grad_(False)
        if kind == "tied":
            self.third = nn.Linear(12, 12)
            self.third.weight = self.second.weight

    def forward(self, x):
        self.calls += self.training
        x = torch.tanh(self.first(x.flatten(1))) * self.scale
        if self.kind != "unused" and (self.kind != "late" or self.calls > 9):
            x = torch.tanh(self.second(x))
        x = torch.tanh(self.third(x)) if self.kind == "tied" else x
        return self.head(F.dropout(x, 0.5, self.training) if self.kind == "dropout" else x)


@pytest.mark.usefixtures("any_outcome")
@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("kind", ["frozen", "unused", "late", "tied", "dropout"])
def test_an_unusual_network_is_resumed_bit_for_bit(examples, monkeypatch, tmp_path, kind, settings):
    whole, parts = Unusual(kind), Unusual(kind)
    training.train(whole, *examples, **settings, seed=5)
    keywords = {**settings, "seed": 5, "checkpoint": tmp_path / "training.safetensors", "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 6)
        training.train(Unusual(kind), *examples, **keywords)
    torch.manual_seed(99)  # another process, whose random state is another
    training.train(parts, *examples, **keywords)
    assert equal(parts, whole)
    fresh = Unusual(kind)
    assert torch.equal(fresh.first.weight, whole.first.weight) == (kind == "frozen")
    assert torch.equal(fresh.second.weight, whole.second.weight) == (kind == "unused")


@pytest.mark.usefixtures("any_outcome")
def test_dropout_follows_the_seed_and_leaves_the_random_state_alone(examples):
    networks, state = [Unusual("dropout") for _ in range(3)], torch.get_rng_state()
    for network, seed in zip(networks, (5, 5, 6), strict=True):
        training.train(network, *examples, **ADAM, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(networks[0], networks[1])
    assert not equal(networks[0], networks[2])


def test_checkpoints_are_not_written_at_every_step(examples, monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(checkpoints, "save_tensors", lambda path, *_: written.append(path))
    training.train(lenet(), *examples, **ADAM, seed=0, checkpoint=tmp_path / "a", checkpoint_seconds=1e6)
    assert not written
    training.train(lenet(), *examples, **ADAM, seed=0, checkpoint=tmp_path / "a", checkpoint_seconds=0.0)
    assert set(written) == {tmp_path / "a"}
    assert len(written) > STEPS // 2


def test_it_learns_and_the_curve_shows_it(examples):
    network = lenet()
    done = training.train(network, *examples, **{**ADAM, "steps": 100}, seed=0)
    assert done.curve["step"] == list(range(1, 101))
    assert done.curve["accuracy"][-1] == 1.0
    assert done.curve["loss"][-1] < 0.1 < done.curve["loss"][0]
    assert (network(examples[0]).argmax(1) == examples[1]).all()


def test_the_curve_has_a_hundred_points_of_means(examples):
    done = training.train(lenet(), *examples, **{**ADAM, "steps": 250}, seed=0)
    steps = done.curve["step"]
    assert len(steps) == 100
    assert steps[-1] == 250
    assert {after - before for before, after in itertools.pairwise(steps)} == {2, 3}
    assert all(0 <= accuracy <= 1 for accuracy in done.curve["accuracy"])


class Recorder(nn.Module):
    """A model that remembers the images it was trained on, which are told by their first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.inputs, self.modes = nn.Linear(12, 2), [], []

    def forward(self, x):
        if torch.is_grad_enabled() and self.head.weight.requires_grad:
            self.inputs.append(x[:, 0, 0, 0].tolist())
        else:
            self.modes.append(self.training)
        return self.head(x.flatten(1))


def numbered(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.arange(n) / n).view(-1, 1, 1, 1).expand(n, 3, 2, 2).clone(), torch.arange(n) % 2


@pytest.mark.usefixtures("any_outcome")
def test_an_epoch_draws_without_replacement():
    model = Recorder()
    training.train(model, *numbered(36), **ADAM, seed=0)
    assert [len(batch) for batch in model.inputs] == [8] * STEPS
    epochs = [sum(model.inputs[first : first + 4], []) for first in (0, 4, 8)]
    assert all(len(set(epoch)) == 32 for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.usefixtures("any_outcome")
def test_pgd_training_sees_the_adversarial_images_only(monkeypatch):
    """What the model is trained on is what `pgd` returned, and the attack meets the model in eval mode."""
    crafted = []

    def pgd(model, x, y, *, generator, **keywords):
        adversarial = attacks_pgd(model, x, y, generator=generator, **keywords)
        crafted.append(adversarial[:, 0, 0, 0].tolist())
        return adversarial

    attacks_pgd = attacks.pgd
    monkeypatch.setattr(attacks, "pgd", pgd)
    model = Recorder()
    training.train(model, *numbered(36), **ADAM, seed=0, attack=ATTACK)
    assert len(crafted) == STEPS
    assert model.inputs == crafted
    assert model.modes == [False] * (1 + STEPS * ATTACK["num_steps"])  # once before, to count its classes


@pytest.mark.usefixtures("any_outcome")
def test_pgd_training_without_a_budget_is_standard_training(examples):
    standard, robust = lenet(), lenet()
    training.train(standard, *examples, **{**ADAM, "steps": 40}, seed=3)
    training.train(robust, *examples, **{**ADAM, "steps": 40}, seed=3, attack={**ATTACK, "eps": 0.0, "random_start": False})
    assert equal(standard, robust)


def test_one_step_is_the_optimizers(examples):
    """A single batch of everything, by hand: the mean loss, and weight decay coupled into Adam's gradient."""
    x, y = examples
    for make, keywords in (
        (partial(torch.optim.Adam, lr=0.01, weight_decay=0.002), {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.002}),
        (
            partial(torch.optim.SGD, lr=0.1, weight_decay=0.01, momentum=0.9),
            {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "momentum": 0.9},
        ),
    ):
        expected, trained = lenet(), lenet()
        optimizer = make(expected.parameters())
        for _ in range(25):
            optimizer.zero_grad()
            F.cross_entropy(expected(x), y).backward()
            optimizer.step()
        training.train(trained, x, y, **{**ADAM, **keywords, "steps": 25, "batch_size": 36}, seed=0)
        for one, other in zip(expected.parameters(), trained.parameters(), strict=True):
            assert torch.allclose(one, other, atol=1e-4)


# --- schedules, augmentation, warm-up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [7, 40, 120, 2737, 9380])
def test_one_cycle_is_torchs(steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps, cycle_momentum=False)
    for step in range(steps):
        rate = training.learning_rate(step, lr=0.02, schedule="one-cycle", steps=steps)
        assert rate == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        if step < steps - 1:
            optimizer.step()
            scheduler.step()


def test_a_mapping_gives_the_rate_from_each_step_on():
    rate = partial(training.learning_rate, lr=0.1, schedule={"60000": 0.001, "40000": 0.01}, steps=80000)
    assert [rate(step) for step in (0, 39999, 40000, 59999, 60000, 79999)] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4, 6])
    for step in range(8):
        assert training.learning_rate(step, lr=0.1, schedule={"4": 0.01, "6": 0.001}, steps=8) == pytest.approx(
            scheduler.get_last_lr()[0]
        )
        optimizer.step()
        scheduler.step()


def test_a_constant_rate():
    assert {training.learning_rate(step, lr=1e-4, schedule="constant", steps=100) for step in range(100)} == {1e-4}


def test_the_schedule_reaches_the_optimizer(examples, monkeypatch):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1])
    training.train(lenet(), *examples, **{**SGD, "steps": 40, "schedule": {"10": 0.05, "30": 0.01}}, seed=0)
    assert rates == [0.1] * 10 + [0.05] * 20 + [0.01] * 10


def test_augmented_images_are_the_crops_and_their_mirror_images():
    n, size = 60, 12
    image = torch.rand(3, size, size, generator=torch.Generator().manual_seed(0))
    augmented = training.augmented(image.expand(n, -1, -1, -1), torch.Generator().manual_seed(1))
    padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    crops = {}
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + size, left : left + size]
            crops[crop.tobytes()] = (top, left, False)
            crops[np.ascontiguousarray(crop[:, :, ::-1]).tobytes()] = (top, left, True)
    assert len(crops) == 9 * 9 * 2
    chosen = [crops[np.ascontiguousarray(crop.numpy()).tobytes()] for crop in augmented]
    assert {mirrored for _, _, mirrored in chosen} == {True, False}
    assert len({top for top, _, _ in chosen}) == 9
    assert len({left for _, left, _ in chosen}) == 9


def test_augmented_images_keep_their_places():
    x = torch.arange(5.0).view(-1, 1, 1, 1).expand(5, 3, 8, 8) / 5
    assert torch.equal(training.augmented(x, torch.Generator().manual_seed(0)), x)


@pytest.mark.parametrize(
    ("warmup", "step", "share"), [(0.3, 0, 0.0), (0.3, 15, 0.5), (0.3, 30, 1.0), (0.3, 99, 1.0), (0, 0, 1.0), (None, 0, 1.0)]
)
def test_the_adversary_warms_up(warmup, step, share):
    settings = {**ATTACK, "precision": "bfloat16"} | ({} if warmup is None else {"warmup": warmup})
    keywords = training.adversary(settings, step, 100)
    assert keywords.pop("eps") == pytest.approx(0.1 * share)
    assert keywords.pop("step_size") == pytest.approx(0.05 * share)
    assert keywords == {"num_steps": 2, "random_start": True, "bounds": (0.0, 1.0), "precision": "bfloat16"}


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; allowed: adam, sgd"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine'; allowed: constant, one-cycle"),
        ({"augment": "mixup"}, "unknown augmentation 'mixup'; allowed: none, crop-flip"),
        ({"batch_size": 0}, "batch_size must be from 1 to the 36 images there are, given 0"),
        ({"batch_size": 37}, "batch_size must be from 1 to the 36 images there are, given 37"),
        ({"attack": {**ATTACK, "eps": -1.0}}, "eps must be"),
        ({"attack": {**ATTACK, "precision": "float8"}}, "unknown precision 'float8'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_unknown_settings(examples, changed, message):
    with pytest.raises(ValueError, match=message):
        training.train(lenet(), *examples, **{**ADAM, **changed}, seed=0)


def test_a_non_finite_loss_names_the_steps(examples):
    with pytest.raises(training.TrainingFailedError, match="non-finite loss between steps 1 and 1") as failure:
        training.train(lenet(), *examples, **{**SGD, "lr": 1e30, "schedule": "constant"}, seed=0)
    assert failure.value.curve["step"] == [1]
    assert failure.value.seconds > 0


def test_a_non_finite_loss_of_the_attack_names_the_step(examples):
    x, y = examples
    with pytest.raises(training.TrainingFailedError, match=r"step 1: non-finite loss on a batch of 8 images"):
        training.train(lenet(), x, y, **{**SGD, "lr": 1e30, "schedule": "constant"}, seed=0, attack=ATTACK)


def test_a_model_at_chance_has_failed():
    x, y = torch.full((40, 3, 16, 16), 0.5), torch.arange(40) % 2
    with pytest.raises(training.TrainingFailedError, match="ends at chance: .* 50.0% by guessing") as failure:
        training.train(lenet(), x, y, **{**ADAM, "steps": 40, "batch_size": 40}, seed=0)
    assert all(math.isfinite(loss) for loss in failure.value.curve["loss"])


def test_a_model_that_beats_a_large_class_has_not_failed():
    """1.2 times a share of 90% is above 100%, which no model reaches."""
    y = (torch.arange(40) % 10 == 0).long()
    x, keywords = y.view(-1, 1, 1, 1).expand(-1, 3, 2, 2).float(), {**ADAM, "lr": 0.1, "steps": 60, "batch_size": 40}
    done = training.train(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), x, y, **keywords, seed=0)
    assert done.curve["accuracy"][-1] == 1.0
    with pytest.raises(training.TrainingFailedError, match="ends at chance: 90.0% on its training batches, 90.0% by guessing"):
        training.train(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.full_like(x, 0.5), y, **keywords, seed=0)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "another model's", "no checkpoint"])
def test_a_damaged_checkpoint_is_an_error(examples, tmp_path, monkeypatch, damage):
    checkpoint = tmp_path / "training.safetensors"
    keywords = {**ADAM, "seed": 0, "checkpoint": checkpoint, "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 6)
        training.train(lenet(), *examples, **keywords)
    content = checkpoint.read_bytes()
    if damage == "another model's":
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, 6)
            training.train(wide_resnet(), *examples, **{**keywords, "checkpoint": tmp_path / "other"})
        content = (tmp_path / "other").read_bytes()
    elif damage == "no checkpoint":
        checkpoints.save_tensors(tmp_path / "other", lenet().state_dict(), {"key": "weights only"})
        content = (tmp_path / "other").read_bytes()
    else:
        content = {"truncated": content[: len(content) // 2], "garbage": b"{" * 1000, "empty": b""}[damage]
    checkpoint.write_bytes(content)
    with pytest.raises(checkpoints.CheckpointError, match=rf"{checkpoint} is not a .*delete it to start again"):
        training.train(lenet(), *examples, **keywords)
    assert checkpoint.read_bytes() == content


def _flipped(tensors: dict, name: str) -> dict:
    """One bit of one tensor is another."""
    bits = tensors[name].clone().reshape(-1).view(torch.uint8)
    bits[len(bits) // 2] ^= 1
    return {**tensors, name: bits.view(tensors[name].dtype).reshape(tensors[name].shape)}


def _set(tensors: dict, name: str, value: float) -> dict:
    return {**tensors, name: torch.full_like(tensors[name], value)}


WEIGHT, SLOT = "model.7.weight", "optimizer.0.exp_avg"
# By name, what becomes of (tensors, about) in the file of a checkpoint.
ALTERED = {
    "a flipped bit of the weights": lambda t, a: (_flipped(t, WEIGHT), a),
    "a flipped bit of the optimizer": lambda t, a: (_flipped(t, SLOT), a),
    "a flipped bit of the generator": lambda t, a: (_flipped(t, "generator"), a),
    "weights that are no number": lambda t, a: (_set(t, WEIGHT, math.nan), a),
    "an infinite slot": lambda t, a: (_set(t, SLOT, math.inf), a),
    "sums that are no number": lambda t, a: (_set(t, "sums", math.nan), a),
    "no optimizer": lambda t, a: ({n: v for n, v in t.items() if not n.startswith("optimizer.")}, a),
    "one slot less": lambda t, a: ({n: v for n, v in t.items() if n != SLOT}, a),
    "one tensor less": lambda t, a: ({n: v for n, v in t.items() if n != WEIGHT}, a),
    "one tensor more": lambda t, a: ({**t, "model.more": torch.ones(1)}, a),
    "another type": lambda t, a: ({**t, WEIGHT: t[WEIGHT].half()}, a),
    "another shape": lambda t, a: ({**t, WEIGHT: t[WEIGHT][:1]}, a),
    "an order of other images": lambda t, a: ({**t, "order": t["order"] + 1}, a),
    "an order with one twice": lambda t, a: (_set(t, "order", 3), a),
    "another order": lambda t, a: ({**t, "order": t["order"].flip(0)}, a),
    "a step past the end": lambda t, a: (t, {**a, "step": 10**6}),
    "a step before the first": lambda t, a: (t, {**a, "step": -1}),
    "another step": lambda t, a: (t, {**a, "step": a["step"] - 1}),
    "a step in words": lambda t, a: (t, {**a, "step": "six"}),
    "no step": lambda t, a: (t, {n: v for n, v in a.items() if n != "step"}),
    "another curve": lambda t, a: (t, {**a, "curve": {"step": [1], "loss": [], "accuracy": []}}),
}
# Without the digest these cannot be told from what training wrote.
BELIEVED = ("flipped bit", "another order", "another step")


def _altered(checkpoint: Path, damage: str, *, digest: bool) -> bytes:
    tensors, about = checkpoints.load_tensors(checkpoint, "cpu")
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
    tensors, about = ALTERED[damage](tensors, about)
    written = metadata["signed"].split(" ")[0]
    metadata = {"signed": f"{written} {json.dumps(about)}"} if digest else {"about": json.dumps(about)}
    save_file({name: value.contiguous() for name, value in tensors.items()}, checkpoint, metadata)
    return checkpoint.read_bytes()


@pytest.fixture
def killed(examples, tmp_path, monkeypatch) -> tuple[Path, dict]:
    """A checkpoint of a training that was killed, and the training's keywords."""
    keywords = {**ADAM, "seed": 0, "checkpoint": tmp_path / "training.safetensors", "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 6)
        training.train(lenet(), *examples, **keywords)
    return keywords["checkpoint"], keywords


@pytest.mark.parametrize("damage", ALTERED)
def test_an_altered_checkpoint_is_known_by_its_digest(examples, killed, damage):
    checkpoint, keywords = killed
    content = _altered(checkpoint, damage, digest=True)
    with pytest.raises(
        checkpoints.CheckpointError, match=rf"{checkpoint} is not a .*\(it was changed after.*delete it to start"
    ) as error:
        training.train(lenet(), *examples, **keywords)
    assert str(error.value).isprintable()
    assert checkpoint.read_bytes() == content


@pytest.mark.parametrize("damage", [name for name in ALTERED if not any(word in name for word in BELIEVED)])
def test_a_checkpoint_that_is_not_whole_is_known_without_a_digest(examples, killed, damage):
    checkpoint, keywords = killed
    content = _altered(checkpoint, damage, digest=False)
    with pytest.raises(checkpoints.CheckpointError, match=rf"{checkpoint} is not a .*delete it to start again") as error:
        training.train(lenet(), *examples, **keywords)
    assert str(error.value).isprintable()
    assert checkpoint.read_bytes() == content


def test_a_checkpoint_of_an_earlier_version_goes_on(examples, killed):
    checkpoint, keywords = killed
    tensors, about = checkpoints.load_tensors(checkpoint, "cpu")
    save_file(tensors, checkpoint, {"about": json.dumps(about)})
    one, other = lenet(), lenet()
    training.train(one, *examples, **keywords)
    training.train(other, *examples, **{**keywords, "checkpoint": None})
    assert equal(one, other)


def test_every_flipped_bit_of_a_file_is_known(tmp_path):
    path = tmp_path / "file"
    checkpoints.save_tensors(path, {"weight": torch.arange(6.0)}, {"step": 3})
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(checkpoints.CheckpointError, match="is not a readable checkpoint"):
            checkpoints.load_tensors(path, "cpu")


def test_the_same_weights_give_the_same_file_and_earlier_files_are_read(tmp_path):
    tensors, about = {"weight": torch.arange(6.0), "bias": torch.zeros(2)}, {"step": 3, "key": "a"}
    files = [tmp_path / str(i) for i in range(8)]
    for file in files:
        checkpoints.save_tensors(file, tensors, about)
    assert len({file.read_bytes() for file in files}) == 1
    digest = checkpoints._digest(tensors, json.dumps(about))
    for metadata in ({"about": json.dumps(about)}, {"about": json.dumps(about), "digest": digest}):
        save_file(tensors, files[0], metadata)
        loaded, told = checkpoints.load_tensors(files[0], "cpu")
        assert told == about
        assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def test_weights_that_are_no_number_are_not_kept_as_a_checkpoint(examples, tmp_path):
    """A training that diverges fails of its own loss; its last checkpoint is from before."""
    checkpoint = tmp_path / "training.safetensors"
    with pytest.raises(training.TrainingFailedError):
        training.train(lenet(), *examples, **{**ADAM, "lr": 1e30}, seed=0, checkpoint=checkpoint, checkpoint_seconds=0.0)
    if checkpoint.exists():
        assert all(value.isfinite().all() for value in checkpoints.load_tensors(checkpoint, "cpu")[0].values())


def test_what_a_killed_process_was_writing_goes(tmp_path):
    (tmp_path / ".training.safetensors.123").write_bytes(b"half of")
    (tmp_path / ".other.safetensors.123").write_bytes(b"half of")
    checkpoints.save_tensors(tmp_path / "training.safetensors", {"weight": torch.ones(3)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.safetensors.123", "training.safetensors"]


def test_tensors_come_back_as_they_were_saved(tmp_path):
    tensors = {
        "weight": torch.rand(4, 3, 5, 5).to(memory_format=torch.channels_last),
        "count": torch.tensor(7),
        "state": torch.arange(9, dtype=torch.uint8),
        "sums": torch.tensor([0.1, 1e-300], dtype=torch.float64),
    }
    about = {"step": 12, "curve": {"loss": [0.1 + 0.2, 1e-17]}}
    checkpoints.save_tensors(tmp_path / "deep" / "file", tensors, about)
    loaded, metadata = checkpoints.load_tensors(tmp_path / "deep" / "file", "cpu")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) and loaded[name].dtype == tensors[name].dtype for name in tensors)
    assert metadata == about
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("pathlib.Path.open", OSError(errno.ENOSPC, "No space left on device")),
        ("os.fsync", OSError(errno.ENOSPC, "No space left on device")),
        ("pathlib.Path.replace", PermissionError(errno.EACCES, "Permission denied")),
    ],
    ids=["while writing", "while syncing", "while renaming"],
)
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, target, error):
    path = tmp_path / "training.safetensors"
    checkpoints.save_tensors(path, {"weight": torch.ones(3)}, {"step": 1})

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch, pytest.raises(OSError, match=f"cannot write {path}: .*(No space|Permission)"):
        patch.setattr(target, fail)
        checkpoints.save_tensors(path, {"weight": torch.zeros(3)}, {"step": 2})
    loaded, about = checkpoints.load_tensors(path, "cpu")
    assert torch.equal(loaded["weight"], torch.ones(3))
    assert about == {"step": 1}
    assert [entry for entry in tmp_path.iterdir() if entry.is_file()] == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot write .*file/checkpoint"):
        checkpoints.save_tensors(tmp_path / "file" / "checkpoint", {"weight": torch.ones(1)}, {})
