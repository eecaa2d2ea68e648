"""Images and labels that would give wrong numbers in silence are refused, in one line, by every public function."""

import threading

import pytest
import torch
from torch import nn

from lib import attacks, evaluation, geometry, models, training, transforms
from lib.attacks import ThreatModel
from lib.base import checks

PGD = {"eps": 0.1, "step_size": 0.05, "num_steps": 2}
LIGHT = ThreatModel(**PGD)
SETTINGS = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant", "weight_decay": 0.0, "steps": 1, "batch_size": 10, "seed": 0}

# Every public function of images and labels.
ENTRIES = {
    "pgd": lambda model, x, y: attacks.pgd(model, x, y, **PGD),
    "square": lambda model, x, y: attacks.square(model, x, y, eps=0.1, queries=1),
    "autoattack": lambda model, x, y: attacks.autoattack(model, x, y, eps=0.1, seed=0, iterations=1, queries=1),
    "evaluate": evaluation.evaluate,
    "evaluate attacked": lambda model, x, y: evaluation.evaluate(model, x, y, LIGHT),
    "moved_by_pgd": lambda model, x, y: evaluation.moved_by_pgd(model, x, y, LIGHT),
    "survives": lambda model, x, y: evaluation.survives(model, x, y, lambda x, y: x, eps=0.1),
    "train": lambda model, x, y: training.train(model, x, y, **SETTINGS),
    "inter_class_distance": lambda model, x, y: geometry.inter_class_distance(x, y),
    "linf_distances": lambda model, x, y: geometry.linf_distances(x, y),
}
OF_IMAGES_IN_THE_BOX = [name for name in ENTRIES if "distance" not in name]

LABELS = {
    "a column": (lambda y: y[:, None], r"labels must be an int64 tensor .* of shape \(10, 1\); y.squeeze\(1\) is one"),
    "one-hot": (lambda y: torch.eye(10, dtype=torch.long)[y], r"labels must be .* y.argmax\(1\) is one of one-hot labels"),
    "int32": (lambda y: y.int(), "labels must be an int64 tensor .* torch.int32 .*; y.long"),
    "uint8": (lambda y: y.byte(), "labels must be an int64 tensor .* torch.uint8"),
    "float": (lambda y: y.float(), "labels must be an int64 tensor .* torch.float32"),
    "negative": (lambda y: -1 - y, "labels must be classes from 0"),
    "too few": (lambda y: y[:9], "every image needs one label, given 10 images and 9 labels"),
    "another device": (lambda y: y.to("meta"), "images and labels must be on the same device, given cpu and meta"),
}


@pytest.fixture
def ten(digits):
    x, _ = digits
    return x[:10], torch.arange(10)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_wrong_labels_are_refused(trained, ten, entry, labels):
    x, y = ten
    change, message = LABELS[labels]
    with pytest.raises(ValueError, match=message):
        ENTRIES[entry](trained, x, change(y))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("entry", [name for name in OF_IMAGES_IN_THE_BOX if name != "train"])
def test_labels_beyond_the_models_classes_are_refused(trained, ten, entry):
    x, y = ten
    with pytest.raises(ValueError, match="labels must be classes from 0 to 9, given labels from 1 to 10"):
        ENTRIES[entry](trained, x, y + 1)


IMAGES = {
    "0 to 255": (
        lambda x: x * 255,
        r"images must lie in \[0, 1\], given values from 0 to 255; divide images",
    ),
    "uint8": (lambda x: (x * 255).byte(), r"given torch.uint8 of shape .*; x.float\(\) / 255 is one"),
    "a rounding": (lambda x: torch.ones_like(x).nextafter(torch.tensor(2.0)), "given values from 1.0000001 to 1.0000001"),
    "NaN": (lambda x: x / 0 * 0, "images must be numbers, given images with NaN"),
    "a vector each": (
        lambda x: x.flatten(1),
        r"images must be a float tensor N×C×H×W, given .* of shape \(10, 784\)",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("entry", OF_IMAGES_IN_THE_BOX)
def test_wrong_images_are_refused(trained, ten, entry, images):
    x, y = ten
    change, message = IMAGES[images]
    with pytest.raises(ValueError, match=message):
        ENTRIES[entry](trained, change(x), y)


def test_a_budget_in_levels_is_refused(trained, ten):
    message = "eps must be at most 1, the width of the bounds, given 8; in these units 8 of 255 levels are 8/255"
    with pytest.raises(ValueError, match=message):
        attacks.pgd(trained, *ten, eps=8, step_size=2, num_steps=1)
    with pytest.raises(ValueError, match=message):
        ThreatModel(eps=8, step_size=2, num_steps=1)


@pytest.mark.usefixtures("unchecked")
def test_whole_numbers_may_be_floats(trained, ten):
    x, y = ten
    keywords = {"eps": 0.1, "step_size": 0.05, "random_start": False}
    assert torch.equal(
        attacks.pgd(trained, x, y, num_steps=2.0, **keywords), attacks.pgd(trained, x, y, num_steps=2, **keywords)
    )
    assert torch.equal(transforms.smooth(x, 3.0), transforms.smooth(x, 3))
    assert checks.whole_number("n", 3.0, 1) == 3


@pytest.mark.parametrize("value", [0, 1.5, float("nan"), float("inf"), True])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="n must be a whole number ≥ 1, given"):
        checks.whole_number("n", value, 1)


@pytest.mark.usefixtures("unchecked")
def test_settings_of_a_training_are_checked_by_name(trained, ten):
    with pytest.raises(ValueError, match="unknown setting 'foo'; allowed: optimizer, lr, "):
        training.train(trained, *ten, **SETTINGS, foo=1)
    with pytest.raises(ValueError, match="settings are missing: optimizer"):
        training.train(trained, *ten, **{name: value for name, value in SETTINGS.items() if name != "optimizer"})
    for attack in ({"eps": 0.3}, ThreatModel(eps=0.3, step_size=0.1, num_steps=2)):
        with pytest.raises(ValueError, match="attack must be a dict with eps, step_size and num_steps at least"):
            training.train(trained, *ten, **{**SETTINGS, "attack": attack})


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_classifier_or_threat_model_is_refused(ten):
    for model in (lambda x: x.mean((1, 2, 3)), lambda x: (x, x)):
        network = torch.nn.Module()
        network.forward = model
        with pytest.raises(ValueError, match="the model must give logits N×classes, given (shape|a tuple)"):
            evaluation.evaluate(network, *ten)
    with pytest.raises(ValueError, match="threat_model must be an attacks.ThreatModel or None, given a dict"):
        evaluation.evaluate(torch.nn.Flatten(), *ten, {"eps": 0.3})
    with pytest.raises(ValueError, match="batch_size must be a whole number ≥ 1, given 0"):
        evaluation.evaluate(torch.nn.Flatten(), *ten, batch_size=0)


def test_training_of_no_steps_is_refused(trained, ten):
    with pytest.raises(ValueError, match="steps must be a whole number ≥ 1, given 0"):
        training.train(trained, *ten, **{**SETTINGS, "steps": 0})


# --- what the caller has set ------------------------------------------------------------------------------------------


class _WithDropout(nn.Module):
    """Batch normalisation, dropout, and a dropout that asks for `training` itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(784, 10)

    def forward(self, x):
        return self.head(nn.functional.dropout(self.drop(self.norm(x)).flatten(1), 0.5, self.training))


@pytest.mark.parametrize("behind", ["lambda", "forward"])
def test_a_model_behind_a_callable_is_attacked_in_eval_mode(ten, behind):
    torch.manual_seed(0)
    model = _WithDropout().train()
    expected = attacks.pgd(model, *ten, random_start=False, **PGD)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attacked = (lambda z: model(z)) if behind == "lambda" else model.forward
    adversarial = attacks.pgd(attacked, *ten, random_start=False, **PGD)
    assert torch.equal(adversarial, expected)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=lambda c: c.__name__)
@pytest.mark.parametrize("early_stop", [False, True])
def test_gradients_are_on_inside_an_attack(trained, ten, context, early_stop):
    keywords = {**PGD, "random_start": False, "early_stop": early_stop}
    expected = attacks.pgd(trained, *ten, **keywords)
    with context():
        x, y = ten[0] * 1, ten[1] * 1  # made inside
        assert torch.equal(attacks.pgd(trained, x, y, **keywords), expected)


def test_autocast_has_no_say_in_an_attack(trained, ten):
    expected = attacks.pgd(trained, *ten, random_start=False, **PGD)
    with torch.autocast("cpu"):
        assert torch.equal(attacks.pgd(trained, *ten, random_start=False, **PGD), expected)


def test_the_default_device_has_no_say_in_an_attack(trained, ten):
    expected = attacks.pgd(trained, *ten, random_start=False, **PGD)
    torch.set_default_device("meta")
    try:
        adversarial = attacks.pgd(trained, *ten, random_start=False, **PGD)
    finally:
        torch.set_default_device(None)
    assert torch.equal(adversarial, expected)


def test_threads_that_attack_one_model_leave_it_as_it_was(trained, ten):
    trained.train()
    starts = threading.Barrier(4)

    def attack() -> None:
        starts.wait()
        for _ in range(5):
            attacks.pgd(trained, *ten, **PGD)

    threads = [threading.Thread(target=attack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(module.training for module in trained.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_the_last_block_to_end_restores(trained):
    trained.train()
    first, second = attacks.frozen(trained), attacks.frozen(trained)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not trained.training
    second.__exit__(None, None, None)
    assert trained.training


# --- numbers that are none --------------------------------------------------------------------------------------------


def test_weights_of_nan_are_no_accuracy(trained, ten):
    with torch.no_grad():
        trained[0].weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"non-finite logits on a batch of 10 images: images \[0, 1, 2"):
        evaluation.evaluate(trained, *ten)


class _NaNGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.flatten(1)[:, :10] * 1

    @staticmethod
    def backward(ctx, gradient):
        return torch.full((len(gradient), 1, 28, 28), torch.nan)


@pytest.mark.parametrize("how", [{}, {"early_stop": True}, {"momentum": 1.0}], ids=str)
def test_a_gradient_of_nan_is_no_robustness(ten, how):
    with pytest.raises(FloatingPointError, match="non-finite loss .*, or its gradient"):
        attacks.pgd(_NaNGradient.apply, *ten, **PGD, **how)


# --- networks that an attack cannot take ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [22, 26, 30, 0])
def test_lenet5_of_a_size_that_cannot_be_halved_twice_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size must be a multiple of 4, .* given {size}"):
        models.lenet5(0.125, image_size=size)


@pytest.mark.parametrize("classes", [2, 3])
def test_autoattack_says_how_many_classes_it_needs(ten, classes):
    with pytest.raises(ValueError, match=f"needs at least 4 classes, given {classes}"):
        attacks.autoattack(models.lenet5(0.125, classes=classes), ten[0], ten[1] % classes, eps=0.1, seed=0)


@pytest.mark.parametrize("classes", [4, 5])
def test_autoattack_of_few_classes_has_fewer_targets(ten, classes):
    model = models.lenet5(0.125, classes=classes)
    y = model(ten[0]).argmax(1)
    adversarial = attacks.autoattack(model, ten[0], y, eps=0.01, seed=0, iterations=2, queries=2)
    assert (adversarial - ten[0]).abs().max() <= 0.01 + 1e-6


POINTS = {
    "inter_class_distance": geometry.inter_class_distance,
    "linf_distances": geometry.linf_distances,
    "pairwise_distances": lambda x, _: geometry.pairwise_distances(x),
    "log2_perturbable_volume": lambda x, _: geometry.log2_perturbable_volume(x, 0.1),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", POINTS)
def test_geometry_takes_finite_numbers_only(name):
    """A NaN pixel gave a distance that is no number, and bytes wrapped around or failed within torch."""
    x, y = torch.rand(4, 1, 5, 5), torch.tensor([0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"a float tensor N×…, given torch.uint8 of shape \(4, 1, 5, 5\); x.float\(\) / 255"):
        POINTS[name]((255 * x).byte(), y)
    x[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="images must be numbers, given images with NaN"):
        POINTS[name](x, y)


def test_a_volume_is_of_images_in_the_cube():
    """Outside of it a factor turned negative, and its logarithm no number."""
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\], given values from 0 to 255; divide images of 0 to 255"):
        geometry.log2_perturbable_volume(torch.tensor([[0.0, 255.0]]), 0.1)


def test_training_takes_the_networks_classes_only():
    """Also where no batch would have met the label that is none."""
    y = torch.arange(10).repeat(10)
    y[99] = 10
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before = network[1].weight.clone()
    with pytest.raises(ValueError, match="labels must be classes from 0 to 9, given labels from 0 to 10"):
        training.train(network, torch.rand(100, 1, 28, 28), y, **SETTINGS)
    assert torch.equal(network[1].weight, before)
    assert network[1].weight.requires_grad


def test_a_value_of_float64_is_told_by_all_its_digits():
    with pytest.raises(ValueError, match=r"given values from 1\.000000000001 to 1\.000000000001"):
        checks.images(torch.full((1, 1, 2, 2), 1 + 1e-12, dtype=torch.float64))
