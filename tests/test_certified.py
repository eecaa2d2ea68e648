"""Certificates: sound against attack, exact where the answer is known, and refused where they would mean nothing."""

import importlib
import json
import sys
import types
import warnings
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import stored
import torch
from torch import nn

from lib import attacks, certified, evaluation, models, training
from lib.run import evaluations, processes
from lib.store import grid, plans, records

SETTINGS = {"optimizer": "adam", "lr": 0.01, "schedule": "constant", "weight_decay": 0.0, "steps": 12, "batch_size": 8}
LOSS = {"eps": 0.05, "first_eps": 0.01, "warmup": 0.5, "proj": 3}


def convnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.small_convnet(1 / 4, classes=2, image_size=8)


def _examples() -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(36) % 2
    noise = torch.rand(36, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return (noise + y.view(-1, 1, 1, 1)) / 2, y


@pytest.fixture
def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """36 dark and bright images of two classes, learnt at once."""
    return _examples()


@pytest.fixture(autouse=True)
def any_outcome(monkeypatch):
    """A training that ends at chance has not failed: a few steps may lead no farther."""
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)


@cache
def robustly_trained(seed: int) -> nn.Sequential:
    """A network that has learnt the examples, and whose bounds for them mean something."""
    model, (x, y) = convnet(seed), _examples()
    training.train(model, x, y, **{**SETTINGS, "steps": 40}, seed=seed, robust_loss=certified.training_loss(**LOSS))
    assert (certified.margins(model, x, y, eps=0.05) > 0.5).all()
    return model


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
    model = robustly_trained(seed) if trained else convnet(seed)
    eps = 0.1
    lower = certified.margins(model, x, y, eps=eps, bounds=bounds)
    adversarial = attacks.pgd(model, x, y, eps=eps, step_size=0.02, num_steps=20, bounds=bounds)
    with torch.no_grad():
        clean, attacked = margin(model, x, y), margin(model, adversarial, y)
    assert (lower <= attacked + 1e-5).all()
    # Neither the attack nor the bound is idle.
    assert ((clean - attacked).mean() / clean.abs().mean()) > 0.01
    assert (lower < attacked - 1e-4).any()


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


# --- a second opinion -------------------------------------------------------------------------------------------------


@pytest.fixture
def lirpa(monkeypatch, tmp_path):
    """auto_LiRPA 0.3 on today's numpy and torch, of which it asks for four things that are gone; skips where it is absent."""
    try:
        installed = version("auto-LiRPA")
    except PackageNotFoundError:
        installed = "none"
    if installed != "0.3":
        pytest.skip(f"needs auto_LiRPA 0.3, found {installed}: pip install --no-deps auto-LiRPA==0.3")
    from torch.onnx import symbolic_helper
    from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

    isin, folder = types.ModuleType("numpy.lib.arraysetops"), types.ModuleType("appdirs")
    isin.isin, folder.user_data_dir = np.isin, lambda name: str(tmp_path / name)
    monkeypatch.setitem(sys.modules, "numpy.lib.arraysetops", isin)
    monkeypatch.setitem(sys.modules, "appdirs", folder)
    monkeypatch.setattr(
        symbolic_helper, "_set_opset_version", lambda n: setattr(GLOBALS, "export_onnx_opset_version", n), raising=False
    )
    monkeypatch.setattr(torch._C.Node, "__getitem__", lambda node, k: getattr(node, node.kindOf(k))(k), raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(warnings, "simplefilter", lambda *_, **__: None)  # its import would undo the line above
        yield importlib.import_module("auto_LiRPA")


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["boxed", "unboxed"])
@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
def test_exact_bounds_are_crowns_with_the_same_slope(lirpa, bounds, trained, examples):
    """Zhang et al. (2018) bound a ReLU below by the slope of its upper bound, as Wong and Kolter do: the two are one."""
    x, y = (t[:6] for t in examples)
    model = robustly_trained(0) if trained else convnet(1)
    for eps in (0.02, 0.1, 0.3):
        low, high = x - eps, x + eps
        if bounds is not None:
            low, high = low.clamp(*bounds), high.clamp(*bounds)
        network = lirpa.BoundedModule(model, x, bound_opts={"relu": "same-slope"})
        ball = lirpa.BoundedTensor(x, lirpa.PerturbationLpNorm(norm=np.inf, eps=eps, x_L=low, x_U=high))
        identity = torch.eye(2)
        with torch.no_grad():
            crown, _ = network.compute_bounds(x=(ball,), C=identity[y].unsqueeze(1) - identity, method="CROWN")
            ours = certified._margins(model, x, y, eps, bounds, None)
        assert torch.allclose(ours, crown, atol=1e-4)
        # Not because there is nothing to bound: at eps = 0 the margins are others.
        assert (certified._margins(model, x, y, 0.0, bounds, None) - ours).amax(1).min() > 1e-3


# --- the ramp ---------------------------------------------------------------------------------------------------------


def pointwise(weight: float, bias: float) -> nn.Conv2d:
    """The convolution weight · x + bias, pixel by pixel."""
    layer = nn.Conv2d(1, 1, 1)
    nn.init.constant_(layer.weight, weight)
    nn.init.constant_(layer.bias, bias)
    return layer


def test_the_certifier_sees_through_a_ramp_written_in_its_layers(examples):
    """Of binarized images none of the ramp's ReLUs is undecided, so the LP bound loses nothing: it is the margin itself."""
    x, y = examples[0].round(), examples[1]
    model = convnet()
    training.train(model, x, y, **{**SETTINGS, "steps": 40}, seed=0)
    ramp = (pointwise(10.0, -4.5), nn.ReLU(), pointwise(-1.0, 1.0), nn.ReLU(), pointwise(-1.0, 1.0))
    with torch.no_grad():
        clean = margin(model, x, y)
        assert torch.allclose(nn.Sequential(*ramp)(examples[0]), models.Ramp(10.0)(examples[0]), atol=1e-6)
    for bounds in ((0.0, 1.0), None):
        lower = certified.margins(nn.Sequential(*ramp, *model), x, y, eps=0.3, bounds=bounds)
        assert torch.allclose(lower, clean, atol=1e-4)
        assert (certified.margins(model, x, y, eps=0.3, bounds=bounds) < clean - 0.1).all()
    certain = certified.certified_by_ramp(model, x, y, eps=0.3, slope=10.0)
    assert torch.equal(certain, clean > 0)


def test_a_ramp_certifies_the_clean_class_of_every_binarized_image(trained, digits):
    x, y = digits
    with torch.no_grad():
        expected = trained(x.round()).argmax(1) == y
    assert 0 < expected.sum() < len(x)
    for eps in (0.0, 0.3, 0.44):
        assert torch.equal(certified.certified_by_ramp(trained, x.round(), y, eps=eps, slope=10.0, batch_size=300), expected)


@pytest.mark.parametrize(("eps", "certain"), [(0.19, True), (0.2, False), (0.21, False)])
def test_a_grey_pixel_is_certain_as_far_as_eps_leaves_it_off_the_steep_part(trained, digits, eps, certain):
    """Pixels of .25 and .75 keep from the steep part, .45 to .55, by .2; one within rounding of it is not certified."""
    x = 0.25 + 0.5 * digits[0][:50].round()
    with torch.no_grad():
        y = models.Ramped(trained, 10.0)(x).argmax(1)
    assert certified.certified_by_ramp(trained, x, y, eps=eps, slope=10.0).tolist() == [certain] * 50
    assert not certified.certified_by_ramp(trained, x, (y + 1) % 10, eps=eps, slope=10.0).any()


def test_no_attack_on_a_ramp_changes_a_certified_class(trained, digits):
    """Neither at random, nor by BPDA, in the box or out of it; and BPDA is not idle: without the ramp it breaks every image."""
    x, y = digits[0][-40:].round(), digits[1][-40:]
    certain = certified.certified_by_ramp(trained, x, y, eps=0.3, slope=10.0)
    ramped, through = models.Ramped(trained, 10.0), models.Ramped(trained, 10.0, straight_through=True)
    for bounds in ((0.0, 1.0), None):
        budget = {"eps": 0.3, "step_size": 0.05, "num_steps": 20, "bounds": bounds}
        for target in (ramped, through):
            adversarial = attacks.pgd(target, x, y, **budget, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                assert torch.equal(ramped(adversarial).argmax(1) == y, certain)
        bare = attacks.pgd(trained, x, y, **budget, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert (trained(bare).argmax(1) == y).sum() < certain.sum() / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0.5}, "undoes perturbations of 0 ≤ eps < 1/2, given eps=0.5"),
        ({"eps": -0.1}, "0 ≤ eps < 1/2, given eps=-0.1"),
        ({"eps": float("nan")}, "0 ≤ eps < 1/2, given eps=nan"),
        ({"slope": 2.5}, r"for eps=0.3 the ramp's slope must be > 1/\(1 - 2 eps\) = 2.5, given 2.5"),
        ({"slope": float("nan")}, "given nan"),
    ],
)
def test_a_ramp_that_does_not_undo_eps(change, message, trained, digits):
    with pytest.raises(ValueError, match=message):
        certified.certified_by_ramp(trained, *(t[:2] for t in digits), **{"eps": 0.3, "slope": 10.0, **change})


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
    train = partial(training.train, **SETTINGS, seed=5, checkpoint=tmp_path / "training.safetensors", checkpoint_seconds=0.0)
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
    budgets = []
    monkeypatch.setattr(certified, "_margins", lambda m, x, y, eps, *_: (budgets.append(eps), m(x))[1])
    loss = certified.training_loss(eps=0.3, first_eps=0.01, warmup=0.5, proj=None)
    for share in (0.0, 0.25, 0.5, 1.0):
        loss(convnet(), *examples, share, torch.Generator())
    assert budgets == pytest.approx([0.01, 0.155, 0.3, 0.3])


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [*grid.runs("section-2.2", "smoke"), *grid.runs("section-2.2-cifar10", "smoke")], ids=str)
def test_a_record_has_no_less_certified_error_than_pgd_error(run, monkeypatch):
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["evaluations"]["certified"], "test_size", 20)
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["models"]["small_convnet"], "epochs", 1)
    assert processes.complete([run], "cpu") == 1
    record = records.read(run, "certified")
    for split, metrics in record["metrics"].items():
        size = record["sizes"][split]
        outcomes = {name: records.unpack(text, size) for name, text in record["outcomes"][split].items()}
        for metric in plans.of(run).evaluation("certified").settings["certificate"]:
            assert metrics[metric] >= 1 - metrics["robust_accuracy"]
            assert metrics[metric] >= 1 - metrics["clean_accuracy"]
            assert metrics[metric] == outcomes[metric].double().mean().item()
            assert not (~outcomes[metric] & ~outcomes["robust_accuracy"]).any()


def test_a_broken_certificate_is_not_recorded(monkeypatch, examples):
    """An attack that succeeds on an image with a certificate says that the certifier is wrong."""
    (run, *_) = grid.runs("section-2.2", "smoke")
    monkeypatch.setattr(certified, "margins", lambda model, x, *_, **__: torch.ones(len(x)))
    outcomes = evaluation.Evaluation(*(torch.tensor([True, False]) for _ in range(3)))
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: outcomes)
    resolved = plans.of(run).evaluation("certified").settings
    with pytest.raises(ArithmeticError, match=r"certified images \[1\]; nothing recorded"):
        evaluations._certified(run, "certified", resolved, convnet(), *(t[:2] for t in examples), "certified")


@pytest.fixture
def ramp_records():
    """Of both runs of `exact-certificate` at smoke: the record, and its outcomes on test images."""
    runs = grid.runs("exact-certificate", "smoke")
    assert processes.complete(runs, "cpu") == 2
    recorded = [records.read(run, "ramp") for run in runs]
    return [
        (r["metrics"]["test"], {m: records.unpack(bits, 50) for m, bits in r["outcomes"]["test"].items()}) for r in recorded
    ]


def test_the_record_of_a_ramp(ramp_records):
    (binary, outcomes), (original, _) = ramp_records
    assert list(binary) == list(plans.metrics("ramp"))
    # Binarized: exact, and no attack does anything; those that do nothing by their nature are no evidence, the others are.
    right = outcomes["clean_accuracy_ramp"]
    for metric in ("robust_accuracy_ramp_pgd", "robust_accuracy_ramp_bpda", "robust_accuracy_ramp_square"):
        assert torch.equal(outcomes[metric], right)
    assert torch.equal(~outcomes["certified_error_ramp"], right)
    assert binary["moved_by_pgd_ramp"] == 0
    assert binary["clean_accuracy_ramp"] > 0.5
    assert binary["robust_accuracy_bare_pgd"] < 0.2
    assert binary["robust_accuracy_bare_square"] < binary["clean_accuracy_ramp"] - 0.2
    # Original: nearly nothing is certain, and PGD sees little of what BPDA finds.
    assert original["certified_error_ramp"] > 0.9
    assert original["moved_by_pgd_ramp"] > 0.9
    assert original["robust_accuracy_ramp_bpda"] < original["robust_accuracy_ramp_pgd"] - 0.1


def test_a_broken_certificate_of_a_ramp_is_not_recorded(monkeypatch, trained, digits):
    (run, *_) = grid.runs("exact-certificate", "smoke")
    monkeypatch.setattr(certified, "certified_by_ramp", lambda model, x, y, **_: torch.ones(len(x), dtype=torch.bool))
    x, y = (t[-20:] for t in digits)
    settings = plans.of(run).evaluation("ramp").settings
    resolved = {**settings, "threat_model": {**settings["threat_model"], "eps": 0.3, "step_size": 0.05, "num_steps": 10}}
    with pytest.raises(ArithmeticError, match=r"certified_error_ramp: \S+ \S+ changes the class|\w+ changes the class"):
        evaluations._behind_a_ramp(run, "ramp", resolved | {"ramp": {"slope": 10.0, "queries": 3}}, trained, x, y, "ramp")


RECORDS = sorted((Path(__file__).parents[1] / "results").rglob("*/certified.json")) + sorted(
    (Path(__file__).parents[1] / "results").rglob("*/ramp.json")
)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: "/".join(path.parts[-9:]))
def test_on_no_committed_record_does_an_attack_find_less_error_than_is_certified_away(path):
    """Certified error ≥ the error of every attack, image by image."""
    record = json.loads(path.read_text())
    for split, size in record["sizes"].items():
        outcomes = {metric: records.unpack(text, size) for metric, text in record["outcomes"][split].items()}
        failing = {metric: bits for metric, bits in outcomes.items() if metric.startswith("certified_error")}
        suffix = "_ramp" if path.stem == "ramp" else ""
        right = {
            m: bits for m, bits in outcomes.items() if m.startswith((f"clean_accuracy{suffix}", f"robust_accuracy{suffix}"))
        }
        assert failing
        assert len(right) == (4 if suffix else 2)
        for bits in failing.values():
            assert bits.double().mean().item() == record["metrics"][split][next(m for m, b in failing.items() if b is bits)]
            for robust in right.values():
                assert not (~bits & ~robust).any()


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
    with pytest.raises(ValueError, match="are needed; given 36 images and 3 labels"):
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
    with pytest.raises(ValueError, match="give attack or robust_loss, not both"):
        training.train(convnet(), *examples, **SETTINGS, seed=0, attack=attack, robust_loss=certified.training_loss(**LOSS))
