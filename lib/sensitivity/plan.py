"""Plans a study before it starts: the budget, the network, the length of each training and the images to attack.

Options that the user leaves out are chosen here, by timing a few steps on this machine. The plan holds all of them.
"""

import inspect
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial

import torch
from torch import nn

from lib import attacks, data, evaluation, models, training
from lib.report.words import budget_label, counted
from lib.run.cost import makespan
from lib.sensitivity.changes import Change, ChangeError, load_function, reason
from lib.sensitivity.folder import Folder
from lib.store import records, schema

NEAR_BINARY = 0.85  # eps is 0.3 if at least this share of the pixels is within 0.1 of 0 or 1
MOST_EPOCHS = 60  # the most epochs of a training; small sets are learnt by then
FEWEST_STEPS = 60  # with fewer steps a network is no better than chance
AUTOATTACK_CALLS = 5000  # about the cost of AutoAttack, in attack steps, for images that it does not fool
FEW = 32  # images in the smallest batch for which AutoAttack is timed
WIDEST = 16  # the largest widen factor, four times the paper's largest: 200 million weights
PAPER_MODELS = ("lenet5", "wide_resnet28")


@dataclass(frozen=True)
class Options:
    """The user's options; `make` chooses those that are None."""

    changes: tuple[str, ...] = ()
    eps: str | float | None = None  # a number, or a fraction as text, in pixel units
    seeds: int | None = None
    minutes: float = 20.0
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    attack_steps: int | None = None  # of the reported attack
    model: str | None = None  # lenet5, wide_resnet28 or file.py:factory
    widen_factor: float = 0.25
    fixed: bool = False
    jobs: int | None = None

    def check(self) -> None:
        """Raise ValueError, with a message of one line, for a value out of range."""
        for name in ("minutes", "lr", "widen_factor"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ValueError(f"--{name.replace('_', '-')} must be a number, given {value!r}")
        if not 0 < self.minutes < math.inf:
            raise ValueError(f"--minutes must be > 0, given {self.minutes:g}; 20 are enough for 10,000 small images")
        for name, least in (("seeds", 1), ("steps", 1), ("batch_size", 2), ("attack_steps", 1), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"--{name.replace('_', '-')} must be a whole number ≥ {least}, given {value!r}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"--lr must be > 0, given {self.lr:g}")
        if not 0 < self.widen_factor <= WIDEST:
            raise ValueError(f"--widen-factor must be in (0, {WIDEST}], given {self.widen_factor:g}")
        if self.eps is not None:
            budget(self.eps)
        if self.model and ".py:" not in self.model and self.model not in PAPER_MODELS:
            raise ValueError(
                f"unknown --model {schema.one_line(self.model)!r}; allowed: {', '.join(PAPER_MODELS)}, file.py:factory"
            )


def budget(given: str | float) -> float:
    """`8/255` or `.3`, text or number, as a number in [1e-6, .5]. ValueError for anything else."""
    text = str(given)
    try:
        value = float(Fraction(text.replace(" ", ""))) if text.isascii() else math.nan
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not 1e-6 <= value <= 0.5:
        raise ValueError(f"--eps must be a number or fraction in [1e-6, 0.5], such as 8/255, given {schema.one_line(text)}")
    return value


def epsilon(images: torch.Tensor) -> tuple[float, str]:
    """The budget for the images, uint8, and the reason for it in words."""
    pixels = images.float() / 255
    near_binary = ((pixels < 0.1) | (pixels > 0.9)).float().mean().item()
    if near_binary >= NEAR_BINARY:
        return 0.3, f"the usual value for nearly binary images; {near_binary:.0%} of these pixels are nearly black or white"
    share = f"only {near_binary:.0%} of these pixels are nearly black or white"
    return 8 / 255, f"the usual value; ε = 0.3 is for nearly binary images, and {share}"


def in_pixel_units(value: float) -> str:
    """A budget or a step size for pixels in [0, 1], as a fraction such as 8/255 if it is one, otherwise with three digits."""
    label = budget_label(value)
    return label if "/" in label else f"{value:.3g}"


def build(plan: dict, seed: int) -> nn.Module:
    """The network of the plan, its weights drawn from `seed`. ChangeError if a user's factory does not return a network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(plan)


def _built(plan: dict) -> nn.Module:
    model, image, classes = plan["model"], plan["image"], len(plan["classes"])
    if model["name"] in PAPER_MODELS:
        return models.build(model["name"], model["widen_factor"], **image, classes=classes)
    factory, source = load_function(model["name"], "--model")
    keywords, option = {**image, "classes": classes}, f"--model {model['name']}"
    check_unchanged(option, source, model.get("source", source))
    try:
        parameters = inspect.signature(factory).parameters.values()
        takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
        names = {parameter.name for parameter in parameters}
        network = factory(**{name: value for name, value in keywords.items() if takes_all or name in names})
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise ChangeError(f"{option}: the factory failed ({reason(error)})") from None
    _check_network(network, option, image, classes)
    return network


def check_unchanged(option: str, source: str, planned: str) -> None:
    """ChangeError if the file that `option` names is not the one of the plan. `source` and `planned` are their sha256.

    A study would otherwise mix results of two versions of the file.
    """
    if source != planned:
        raise ChangeError(
            f"{option}: the file was edited after this study began; restore it to continue, or give the command again (with "
            "another --out if you like) to start a new study with the edited file"
        )


def _check_network(network: object, option: str, image: dict, classes: int) -> None:
    if not isinstance(network, nn.Module):
        raise ChangeError(f"{option} must return a torch.nn.Module, it returned a {type(network).__name__}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ChangeError(f"{option} must return a network with parameters to train, it has none")
    x = torch.rand(2, image["in_channels"], image["image_size"], image["image_size"], requires_grad=True)
    training_before = network.training
    try:
        logits = network.eval()(x)
    except (Exception, SystemExit) as error:
        raise ChangeError(f"{option}: the network fails on images {tuple(x.shape)} ({reason(error)})") from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ChangeError(f"{option}: the network must return logits of shape (2, {classes}) for 2 images, it returned {given}")
    if not logits.isfinite().all():
        raise ChangeError(f"{option}: the network must return finite logits, it returned NaN or infinity")
    if not _has_gradient(network, x):
        raise ChangeError(
            f"{option}: the network's logits must have a gradient to the pixels, which the attack follows; theirs is 0 or "
            "missing, as after argmax, round, detach or torch.no_grad"
        )
    network.train(training_before)


def _has_gradient(network: nn.Module, x: torch.Tensor) -> bool:
    """Whether the logits have a gradient to the pixels that is not 0, for weights near those of the network.

    At the weights themselves it may be 0: a last layer often begins with zeros.
    """
    weights = [weight for weight in network.parameters() if weight.is_floating_point()]
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.01 * torch.randn_like(weight))
    logits = network(x)
    gradient = None
    if logits.requires_grad:
        (gradient,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), x, allow_unused=True)
    with torch.no_grad():
        for weight, value in zip(weights, before, strict=True):
            weight.copy_(value)
    return gradient is not None and bool(gradient.count_nonzero())


def _settings(name: str, train_size: int, eps: float, options: Options) -> tuple[dict, dict]:
    """The keyword arguments of `training.train` without steps and seed, and the attack in training."""
    batch = min(options.batch_size or 128, train_size) if options.batch_size else min(128, max(16, train_size // 8), train_size)
    common = {"schedule": "one-cycle", "batch_size": batch}
    if name == "wide_resnet28":
        optimizer = {"optimizer": "sgd", "momentum": 0.9, "lr": options.lr or 0.1, "weight_decay": 0.0002}
        attack = {"num_steps": 3, "step_size": eps / 2}
    else:
        optimizer = {"optimizer": "adam", "lr": options.lr or (0.002 if name == "lenet5" else 0.001), "weight_decay": 0.0}
        attack = {"num_steps": 7, "step_size": eps / 4}
    return common | optimizer, {"eps": eps, **attack, "warmup": 0.3, "bounds": [0.0, 1.0], "random_start": True}


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _step_seconds(plan: dict, x: torch.Tensor, y: torch.Tensor) -> float:
    """The seconds of one training step on this machine, without the first steps, which compile."""
    model = build(plan, 0).to(x.device)
    attack = plan["attack"]

    def train(steps: int) -> float:
        try:
            return training.train(
                model, x, y, **plan["training"], steps=steps, seed=0, attack=attack, description="timing"
            ).seconds
        except training.TrainingFailedError as failure:  # so few steps end at chance
            return failure.seconds

    train(2)
    return train(6) / 6


def _attack_seconds(plan: dict, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """The seconds of one step of the attack on one image, and of one step of AutoAttack's kind on `FEW` images together."""
    model = build(plan, 0).to(x.device).eval()
    keywords = {"eps": plan["attack"]["eps"], "step_size": 0.01, "num_steps": 10}
    seconds = []
    for images, loss in ((256, {}), (FEW, {"loss": "margin"})):  # with the margin loss each step is one call, as in AutoAttack
        attack = partial(attacks.pgd, model, x[:images], y[:images], **keywords, **loss)
        attack()
        seconds.append(_seconds(attack) / 10)
    return seconds[0] / len(x[:256]), seconds[1]


@dataclass(frozen=True)
class _Costs:
    """The costs of a study's parts, in seconds."""

    step: float  # a training step
    attack: float  # an attack step on one image
    call: float  # an attack step on `FEW` images; with so few images the overhead of the call decides
    change: float  # a change of one image, the mean over the changes

    def autoattack(self, images: int) -> float:
        """Seconds of AutoAttack on so many images that it does not fool."""
        return AUTOATTACK_CALLS * self.call * max(1.0, images / FEW)

    def jobs(self, plan: dict, steps: int) -> list[float]:
        """The seconds of each job, one per change and seed; the first seed has the strong attacks and the half training."""
        test, strong = plan["test_size"], plan["strong"]
        evaluated = test * self.attack * (1 + 1.3 * plan["threat_model"]["num_steps"])
        changed = self.change * (plan["sizes"]["train"] + test)
        attacked = self.attack * strong["images"] * (len(plan["eps_curve"]) * plan["threat_model"]["num_steps"] + 130)
        if strong["autoattack"]:
            attacked += self.autoattack(strong["suite_images"])
        else:
            attacked += self.attack * strong["suite_images"] * 500
        one = steps * self.step + evaluated + changed
        first = one + steps // 2 * self.step + evaluated + attacked
        seeds, changes = plan["seeds"], len(plan["changes"])
        fixed = plan["fixed"] * strong["images"] * plan["threat_model"]["num_steps"] * (self.attack + self.change)
        return [first + fixed] * changes + [one] * (changes * (seeds - 1))


def make(folder: Folder, changes: list[Change], options: Options, device: torch.device) -> dict:
    """The plan of a study, of plain JSON values. ValueError if there are too few minutes; it says how many are enough."""
    options.check()
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = 1 if device.type == "cuda" else min(options.jobs or cores, max(2, cores))
    eps, eps_reason = (budget(options.eps), "as given") if options.eps else epsilon(folder.train.images)
    attack_steps = options.attack_steps or 20
    seeds = options.seeds or (3 if options.minutes >= 60 else 2)
    plan = {
        "folder": folder.name, "digest": folder.digest, "classes": folder.classes, "notes": folder.notes,
        "sizes": {"train": len(folder.train), "test": len(folder.test)},
        "image": {"in_channels": folder.channels, "image_size": folder.side},
        "changes": [{"name": change.name, "does": change.does, "source": change.source} for change in changes],
        "eps_reason": eps_reason, "seeds": seeds, "fixed": options.fixed, "minutes": options.minutes,
        "threat_model": {"eps": eps, "num_steps": attack_steps, "step_size": 2.5 * eps / attack_steps},
        "eps_curve": sorted({0.0, *(min(share * eps, 1.0) for share in (0.25, 0.5, 1.0, 1.5, 2.0)), 0.5, 1.0}),
        "jobs": min(jobs, len(changes) * seeds),
    }  # fmt: skip
    try:
        torch.set_num_threads(max(1, cores // plan["jobs"]))
        return _measured(plan, folder, changes, options, device)
    finally:
        torch.set_num_threads(threads)


def _measured(plan: dict, folder: Folder, changes: list[Change], options: Options, device: torch.device) -> dict:
    """The plan with its network, its steps and the attacked images, chosen by timing a few steps."""
    subset = data.balanced(folder.train.labels, min(len(folder.train), 1024))
    x, y = (folder.train.images[subset].to(device).float() / 255), folder.train.labels[subset].to(device)
    few = x[:32]
    change = sum(_seconds(lambda apply=apply: apply(few)) for apply in changes) / len(changes) / len(few)
    available = 60 * options.minutes * 0.85 - 10  # a worker takes seconds to start
    names = [options.model] if options.model else ["lenet5"] if folder.channels == 1 else ["wide_resnet28", "lenet5"]
    reasons = []
    for name in names:
        training_, attack = _settings(name, len(folder.train), plan["threat_model"]["eps"], options)
        source = load_function(name, "--model")[1] if ".py:" in name else ""
        width = {"widen_factor": options.widen_factor} if name in PAPER_MODELS else {"source": source}
        plan |= {"model": {"name": name, **width}, "training": training_, "attack": attack}
        measured = {**plan, "training": {**training_, "batch_size": min(training_["batch_size"], len(x))}}
        costs = _Costs(_step_seconds(measured, x, y), *_attack_seconds(measured, x, y), change)
        _choose_images(plan, folder, options, costs, available)
        epoch = max(1, len(folder.train) // training_["batch_size"])
        steps = options.steps or min(MOST_EPOCHS * epoch, _most_steps(plan, costs, available))
        if name == names[-1] or steps >= 8 * epoch:
            break
        reasons.append(f"{name} would see each image only {steps / epoch:.1f} times in this time")
    if steps < FEWEST_STEPS and not options.steps:
        needed = (makespan(costs.jobs(plan, FEWEST_STEPS), plan["jobs"]) + 10) / 0.85 / 60
        raise ValueError(
            f"--minutes {options.minutes:g} allows {max(steps, 0)} steps per training, at least {FEWEST_STEPS} are needed: "
            f"give --minutes {math.ceil(needed)}, fewer changes (now {len(changes)}) or fewer --seeds (now {plan['seeds']})"
        )
    usual = "the choice for grey images" if folder.channels == 1 else "the choice for colour images"
    plan["model"]["reason"] = "as given" if options.model else "; ".join(reasons) or usual
    plan["training"] = {**plan["training"], "steps": int(steps)}
    tested = folder.test.labels[data.balanced(folder.test.labels, plan["test_size"])]
    plan |= {
        "largest_class": tested.bincount().max().item() / len(tested),  # its share of the test images
        "epochs": round(steps / epoch, 1), "step_seconds": costs.step,
        "expected_seconds": makespan(costs.jobs(plan, steps), plan["jobs"]) + 10,
        "job_seconds": costs.jobs(plan, steps), "options": asdict(options),
        "device": records.device_name(device), **records.provenance(),
    }  # fmt: skip
    return plan


def _choose_images(plan: dict, folder: Folder, options: Options, costs: _Costs, available: float) -> None:
    """How many test images are attacked: each kind of attack gets a share of the time, and a least number of images."""
    trainings = len(plan["changes"]) * (plan["seeds"] + 1)
    seconds_per_image = costs.attack * (1 + 1.3 * plan["threat_model"]["num_steps"]) * trainings / plan["jobs"]
    test = min(len(folder.test), 2000, max(200, int(0.12 * available / seconds_per_image)))
    images = min(test, 200)
    # AutoAttack gets an eighth of the time, if this is enough for the fewest images.
    suite = int(FEW * 0.125 * available * plan["jobs"] / len(plan["changes"]) / costs.autoattack(FEW))
    affordable = len(plan["classes"]) >= 4 and suite >= FEW
    suite_images = min(images, max(FEW, suite), 100) if affordable else min(images, 100)
    plan |= {"test_size": test, "strong": {"images": images, "suite_images": suite_images, "autoattack": affordable}}


def _most_steps(plan: dict, costs: _Costs, available: float) -> int:
    """The most steps of a training with which the whole study ends in time; 0 if there are none."""
    low, high = 0, 10**6
    while low < high:
        middle = (low + high + 1) // 2
        fits = makespan(costs.jobs(plan, middle), plan["jobs"]) <= available
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def guessing(plan: dict) -> float:
    """The accuracy, in [0, 1], of the best guess without looking: always the largest class of the test images."""
    return plan.get("largest_class", 1 / len(plan["classes"]))  # earlier plans lack it


def in_words(plan: dict) -> str:
    """The plan in a few lines, for the user who waits for the study."""
    changes = ", ".join(change["name"] for change in plan["changes"])
    sizes, side, model, threat = plan["sizes"], plan["image"]["image_size"], plan["model"], plan["threat_model"]
    colour = "grey" if plan["image"]["in_channels"] == 1 else "colour"
    limit = "there is no limit, since --steps is given" if plan["options"].get("steps") else "--minutes sets the limit"
    pgd, trainings = f"PGD with {counted(threat['num_steps'], 'step')}", counted(plan["seeds"], "training")
    return "\n".join(
        [
            f"{plan['folder']}: {counted(sizes['train'], 'training image')}, {counted(sizes['test'], 'test image')}, "
            f"{len(plan['classes'])} classes, {side}×{side} pixels, {colour}",
            f"changes: {changes}",
            f"network: {model['name']} ({model['reason']})",
            f"attack: {pgd}, ε = {in_pixel_units(threat['eps'])} ({plan['eps_reason']})",
            f"training: {trainings} for each change, {counted(plan['training']['steps'], 'step')} each "
            f"({plan['epochs']:g} passes over the images), and one training with half as many steps",
            f"evaluation: {counted(plan['test_size'], 'test image')} under this attack, {plan['strong']['suite_images']} of "
            f"them also under stronger attacks; guessing is right on {guessing(plan):.1%} of them",
            f"time: about {plan['expected_seconds'] / 60:.1f} minutes, {counted(plan['jobs'], 'training')} at a time; {limit}",
        ]
    )


def seconds_left(expected: float, elapsed: float, first: float, now: float) -> float:
    """The time that a study still takes: the share `first` of it was done `elapsed` seconds ago, the share `now` is done now.

    The estimate follows the speed since then; until something is done, it follows the plan, `expected` seconds in all.
    """
    if now > first:
        return elapsed * (1 - now) / (now - first)
    return max(0.0, expected * (1 - first) - elapsed)


def threat_model(plan: dict, **other: object) -> evaluation.ThreatModel:
    """The reported attack, or one that differs from it in some settings."""
    return evaluation.ThreatModel(**{**plan["threat_model"], **other})
