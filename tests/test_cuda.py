"""What only a GPU can show; skipped where there is none. `make gpu` runs it before it measures."""

import pytest
import stored
import torch
from test_together import ADAM, ATTACK, NETWORKS, SGD, Killed, assert_same, kill_at

from lib import attacks, evaluation, training
from lib.attacks import ThreatModel
from lib.fast import forms
from lib.run import devices, groups, material, processes
from lib.store import grid, plans, records
from lib.training import Member

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
PGD = {"eps": 0.1, "step_size": 0.02, "num_steps": 10}


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Deterministic, in float32 as it is; a training that ends at chance has not failed."""
    devices.device("cuda")
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)
    forms._CAPTURED.clear()


def where() -> torch.device:
    """The last GPU, which need not be the current one."""
    return torch.device("cuda", torch.cuda.device_count() - 1)


def members(name: str, count: int = 3, *, dtype: torch.dtype = torch.float32, folder=None) -> list[Member]:
    listed = []
    for i in range(count):
        torch.manual_seed(10 + i)
        model, y = NETWORKS[name][0]().to(where(), dtype), (torch.arange(36) % 2).to(where())
        x = (torch.rand(36, 3, 16, 16).to(where(), dtype) + y.view(-1, 1, 1, 1)) / 2
        listed.append(Member(model, x, y, 5 + i, folder and folder / f"{i}.safetensors"))
    return listed


def alone(member: Member, settings: dict, **more) -> training.Training:
    own = {"seed": member.seed, "checkpoint": member.checkpoint}
    return training.train(member.model, member.x, member.y, **own, **settings, **more)


@pytest.fixture(params=[(name, kind) for name in NETWORKS for kind in ("standard", "pgd")], ids="-".join)
def case(request) -> tuple[str, dict]:
    name, kind = request.param
    return name, {**NETWORKS[name][1], "attack": ATTACK if kind == "pgd" else None}


@pytest.mark.parametrize("name", NETWORKS)
def test_float64_agrees_with_advertorch(name):
    (member,) = members(name, 1, dtype=torch.float64)
    start = attacks.random_delta(member.x, 0.1, torch.Generator(where()).manual_seed(0))
    ours, theirs = (
        attacks.pgd(member.model, member.x, member.y, start=start, engine=engine, **PGD) for engine in attacks.ENGINES
    )
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    assert (ours - member.x).abs().max() > 0.05


@pytest.mark.parametrize("precision", attacks.PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_takes_the_eager_steps(name, precision, monkeypatch):
    (member,) = members(name, 1)
    settings = {**PGD, "precision": precision}
    start = attacks.random_delta(member.x, 0.1, torch.Generator(where()).manual_seed(0))
    replayed = attacks.pgd(member.model, member.x, member.y, start=start, **settings)
    assert attacks.engine_of(member.model, member.x) == "captured"
    monkeypatch.setattr(forms, "captures", lambda model, x: False)
    eager = attacks.pgd(member.model, member.x, member.y, start=start, **settings)
    assert (replayed != eager).double().mean() < 0.01
    assert (replayed - member.x).abs().max() > 0.05


def test_every_gpu_captures_on_its_own():
    (member,) = members("lenet5", 1)
    for device in (torch.device("cuda", index) for index in range(torch.cuda.device_count())):
        model, x, y = member.model.to(device), member.x.to(device), member.y.to(device)
        adversarial = attacks.pgd(model, x, y, **PGD)
        assert adversarial.device == device
        assert (adversarial - x).abs().max() > 0.05
        squared = attacks.square(model, x, y, eps=0.1, queries=2)
        assert {squared.device, *(weight.device for weight in model.parameters())} == {device}


def test_a_group_takes_no_more_memory_than_estimated():
    run = grid.Run.parse("mnist/original/lenet5-w0.25/pgd/n9000/default/seed0", "paper")
    settings, count = plans.of(run).settings, 8
    keywords = {**settings["training"], "attack": settings["attack"], "steps": 3}
    del keywords["seed"]
    x, y = torch.rand(run.train_size, 1, 28, 28), torch.arange(run.train_size) % 10

    def train(members: int) -> None:
        listed = [Member(material.new_model(run, where()), x.to(where()), y.to(where()), seed) for seed in range(members)]
        training.train_together(listed, **keywords)

    train(2)  # the libraries' own memory is there from now on
    torch.cuda.reset_peak_memory_stats(where())
    before = torch.cuda.memory_allocated(where())
    train(count)
    assert torch.cuda.max_memory_allocated(where()) - before < count * groups.memory(run)


def test_an_evaluation_captures_one_graph():
    (member,) = members("lenet5", 1)
    threat_model = ThreatModel(**PGD)
    generator = torch.Generator(where()).manual_seed(0)
    evaluation.evaluate(member.model, member.x, member.y, threat_model, batch_size=16, generator=generator)
    assert len(forms._CAPTURED) == 1  # of 36 images in batches of 16, and of those that are misclassified


def test_same_seed_same_weights(case):
    name, settings = case
    (one,), (other,) = members(name, 1), members(name, 1)
    assert alone(one, settings).curve == alone(other, settings).curve
    assert_same(one.model, other.model, atol=0)


def test_a_killed_training_goes_on_bit_for_bit(case, monkeypatch, tmp_path):
    name, settings = case
    (expected,), (resumed,) = members(name, 1), members(name, 1, folder=tmp_path)
    alone(expected, settings)
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(Killed):
            alone(members(name, 1, folder=tmp_path)[0], settings, checkpoint_seconds=0.0)
    alone(resumed, settings)
    assert_same(expected.model, resumed.model, atol=0)


def test_together_as_alone(case):
    """In float64, where rounding tips no sign of a gradient."""
    name, settings = case
    expected, group = members(name, dtype=torch.float64), members(name, dtype=torch.float64)
    for member in expected:
        alone(member, settings)
    training.train_together(group, **settings)
    for one, other in zip(expected, group, strict=True):
        assert_same(one.model, other.model)


def test_on_the_gpu_as_on_the_processor(case):
    name, settings = case
    (on_gpu,) = members(name, 1, dtype=torch.float64)
    settings = {**settings, "augment": "none", "batch_size": 36, "attack": None}  # draws differ from device to device
    (expected,) = members(name, 1, dtype=torch.float64)
    expected = Member(expected.model.cpu(), expected.x.cpu(), expected.y.cpu(), 0)
    alone(on_gpu, settings)
    alone(expected, settings)
    on_gpu.model.cpu()
    assert_same(expected.model, on_gpu.model, atol=1e-4)  # the rate is in float32


def test_a_group_of_the_grid(monkeypatch):
    """From `complete` to the records, each run's own."""
    lenet5 = grid.spec()["scales"]["smoke"]["models"]["lenet5"]
    for name, value in {"steps": 12, "batch_size": 16}.items():
        stored.declare(monkeypatch, lenet5, name, value)
    keys = [f"mnist/{transform}/lenet5-w0.125/pgd/n4000/default/seed0" for transform in ("original", "smooth-3")]
    runs = [grid.Run.parse(key, "smoke") for key in keys]
    assert processes.complete(runs, str(where())) == 2
    for run in runs:
        record = records.read(run, "training")
        assert (record["together"], record["engine"], record["step"]) == (2, "captured", "captured")
        assert not records.missing(run)


def test_settings_of_these_tests_are_both_optimizers():
    assert {settings["optimizer"] for settings in (ADAM, SGD)} == {"adam", "sgd"}
