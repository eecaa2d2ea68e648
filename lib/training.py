"""The training loop. Standard training gives the model the image itself, PGD training the attacked image.

`training.train(model, x, y, **settings["training"], attack=settings.get("attack"), checkpoint=path)`
`training.train_together([training.Member(model, x, y, seed), …], **settings)` trains many networks of one shape at once.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from lib import attacks
from lib.base import checkpoints, checks
from lib.base.checkpoints import Curve
from lib.base.recipe import AUGMENTATIONS, adversary, augmented, learning_rate, optimizer_of
from lib.fast import forms, stacked, surroundings

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]

CURVE_POINTS = 100
CHECKPOINT_SECONDS = 60.0
# A training has failed if in its last tenth it is no better than this many times guessing, or than halfway from guessing to 1.
NO_BETTER_THAN_CHANCE = 1.2


class TrainingFailedError(ArithmeticError):
    """The loss became non-finite, or the model never left chance: no result, but a curve to look at."""

    def __init__(self, reason: str, curve: Curve, seconds: float) -> None:
        super().__init__(reason)
        self.reason, self.curve, self.seconds = reason, curve, seconds


@dataclass(frozen=True)
class Training:
    """What is known of a training besides the weights."""

    curve: Curve  #: step, loss, accuracy
    seconds: float  #: over all the processes that took part
    #: What took the last of its steps, the attack aside: "compiled", "captured" or "framework". None where no step was left.
    step: str | None = None


@dataclass(frozen=True)
class Member:
    """What one of several trainings has for itself: a network, trained in place, images and labels on its device, a seed."""

    model: nn.Module
    x: Images
    y: Labels
    seed: int
    checkpoint: Path | None = None


def train(
    model: nn.Module, x: Images, y: Labels, *, seed: int, checkpoint: Path | str | None = None, **settings: object
) -> Training:
    """Train `model` in place on images in [0, 1] and labels, all on the model's device; `settings`: see `train_together`.

    - `seed` decides batches, augmentation, the attacks' starts and dropout: same seed and device, same weights.
    - `checkpoint`: a file written now and then. If it exists, training continues from it, bit for bit.

    Raises ValueError for unknown settings, CheckpointError for a file that cannot be read, and TrainingFailedError for a
    non-finite loss, naming the step, or a model that ends at chance.
    """
    checks.settings(train_together, settings, but="members")
    checkpoint = None if checkpoint is None else Path(checkpoint)
    (outcome,) = train_together([Member(model, x, y, seed, checkpoint)], **settings)
    if isinstance(outcome, TrainingFailedError):
        raise outcome
    return outcome


def train_together(
    members: Sequence[Member],
    *,
    optimizer: str,
    lr: float,
    schedule: str | dict[str, float],
    weight_decay: float,
    steps: int,
    batch_size: int,
    momentum: float = 0.0,
    augment: str = "none",
    attack: dict | None = None,
    robust_loss: Callable | None = None,
    checkpoint_seconds: float | None = None,
    description: str = "training",
) -> list[Training | TrainingFailedError]:
    """`train` of several networks of one shape at once, on as many images each: the outcome of each of them, in their order.

    - `attack` None is standard training; else the settings of the attack crafted on each batch (`pgd`'s keywords, and
      `warmup`, the share of the steps over which eps grows from 0). PGD training sees adversarial images only; the
      attack is crafted in eval mode (Appendix B.1, Madry et al., 2017).
    - `robust_loss`, instead of the cross entropy, of a single network: a function of (model, images, labels, share of the
      steps done, generator) that gives (mean loss, whether each image counts as correct). It excludes `attack`.
    - `steps` batches of `batch_size`, drawn without replacement within an epoch. The loss is the mean cross entropy.
    - `checkpoint_seconds`: seconds between two checkpoints, by default `CHECKPOINT_SECONDS`.

    The curve has up to 100 points: `step`, `loss` and `accuracy` (of the training batches since the last point).
    Each member draws what its training alone would draw and follows it, up to rounding; its checkpoint is the one that its
    training alone would write, so that it may go on in other company. One that fails leaves the others at work. Seconds are a
    member's share of the time. On a GPU a training step of all members is one captured graph.

    Raises ValueError for unknown settings, and for members that cannot be trained together: networks of other shapes or of
    layers that cannot be stacked, an attack that is not the paper's or not in float32, or a `robust_loss`. CheckpointError
    for a file that cannot be read.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augment!r}; allowed: {', '.join(AUGMENTATIONS)}")
    if not members:
        raise ValueError("at least one training is needed, given none")
    for member in members:
        checks.images(member.x)
        checks.labels(member.y, member.x)
    steps, images = checks.whole_number("steps", steps, 1), {len(member.x) for member in members}
    if len(images) > 1:
        raise ValueError(f"trainings together need the same number of images, given {' and '.join(map(str, sorted(images)))}")
    if not 1 <= batch_size <= min(images):
        raise ValueError(f"batch_size must be from 1 to the {min(images)} images there are, given {batch_size}")
    if attack is not None and not (isinstance(attack, dict) and {"eps", "step_size", "num_steps"} <= {*attack}):
        raise ValueError(f"attack must be a dict with eps, step_size and num_steps at least, given {attack!r}")
    if attack is not None and robust_loss is not None:
        raise ValueError("give attack or robust_loss, not both")
    for member in members:
        with attacks.frozen(member.model):
            checks.labels(member.y, member.x, attacks.classes_of(member.model, member.x, member.y))
    if len(members) > 1 and not _stackable(attack, robust_loss):
        raise ValueError("trainings together need the cross entropy, or the paper's attack in float32")
    model, x = members[0].model, members[0].x
    captured = forms.captures(model, x) and stacked.can_stack(model) and _stackable(attack, robust_loss)
    checkpoint_seconds = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds

    def make_optimizer(model: nn.Module, **options: bool) -> torch.optim.Optimizer:
        return optimizer_of(optimizer, model, lr, weight_decay, momentum, **options)

    courses = [_Course(member, make_optimizer(member.model), steps) for member in members]

    def rate(step: int) -> float:
        return learning_rate(step, lr=lr, schedule=schedule, steps=steps)

    while unfinished := [course for course in courses if course.failure is None and course.step < steps]:
        # After a kill some runs may have more steps than others: those with fewer catch up first.
        first = min(course.step for course in unfinished)
        group = [course for course in unfinished if course.step == first]
        end_step = min((course.step for course in unfinished if course.step > first), default=steps)
        if len(group) > 1 or captured:
            network = _StackedSteps(group, make_optimizer, batch_size, attack, steps)
        else:
            network = _SingleSteps(group[0], attack, robust_loss, steps)
        label = f"{description} and {len(group) - 1} more" if len(group) > 1 else description
        with tqdm(total=steps, initial=first, desc=label, unit="step", mininterval=1.0, dynamic_ncols=True) as bar:
            _run(network, group, end_step, steps, batch_size, augment, checkpoint_seconds, rate, bar)
        del network  # the next one uses its memory and its graph's
    return [course.result() for course in courses]


# The settings of an attack that `_StackedSteps` takes; left out, they are these.
_STACKABLE_ATTACK = {
    "loss": "cross_entropy", "momentum": 0.0, "early_stop": False, "restarts": 1, "engine": "lib", "precision": "float32"
}  # fmt: skip


def _stackable(attack: dict | None, robust_loss: Callable | None) -> bool:
    """Whether `_StackedSteps` takes such a training step: the cross entropy, on images or on the paper's own attack of them."""
    return robust_loss is None and all((attack or {}).get(name, value) == value for name, value in _STACKABLE_ATTACK.items())


class _Course:
    """The state of a training: its network and everything else that its next step depends on."""

    def __init__(self, member: Member, algorithm: torch.optim.Optimizer, steps: int) -> None:
        self.member, self.model, self.algorithm = member, member.model, algorithm
        self.x, self.y = member.x, member.y
        self.generator = torch.Generator(self.x.device).manual_seed(member.seed)
        self.curve: Curve = {"step": [], "loss": [], "accuracy": []}
        self.order: Tensor | None = None
        self.step, self.seconds = 0, 0.0
        # Sums since the last point of the curve, kept on the device: loss, and share of correct predictions.
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.x.device)
        self.failure: TrainingFailedError | None = None
        self.step_taken_by: str | None = None
        if member.checkpoint is not None and member.checkpoint.exists():
            self.step, self.seconds, self.order, self.sums, self.curve = checkpoints.resume(
                member.checkpoint, self.model, algorithm, self.generator, len(self.x), steps
            )

    def batch(self, size: int, augment: str) -> tuple[Images, Labels]:
        """The images and labels of the next step."""
        batches = len(self.x) // size  # an epoch's; the rest of the images wait for the next shuffle
        if self.step % batches == 0:
            self.order = torch.randperm(len(self.x), generator=self.generator, device=self.x.device)
        indices = self.order[self.step % batches * size :][:size]
        batch, labels = self.x[indices], self.y[indices]
        return (augmented(batch, self.generator) if augment == "crop-flip" else batch), labels

    def fail(self, reason: str) -> None:
        """End the training without a result."""
        self.failure = TrainingFailedError(reason, self.curve, self.seconds)

    def point(self, sums: list[float]) -> None:
        """Add a point to the curve, from the sums since the last one."""
        steps_since = self.step - (self.curve["step"][-1] if self.curve["step"] else 0)
        mean_loss, accuracy = (value / steps_since for value in sums)
        if not math.isfinite(mean_loss):
            self.fail(f"non-finite loss between steps {self.step - steps_since} and {self.step - 1}")
            return
        for name, value in (("step", self.step), ("loss", mean_loss), ("accuracy", accuracy)):
            self.curve[name].append(value)

    def save(self) -> None:
        """Write the checkpoint."""
        metadata = {"step": self.step, "seconds": self.seconds, "curve": self.curve}
        loop = {"generator": self.generator.get_state(), "order": self.order, "sums": self.sums}
        checkpoints.save(self.member.checkpoint, self.model, self.algorithm, loop, metadata)

    def result(self) -> Training | TrainingFailedError:
        """The result: a failure where the model ends at chance, or had failed before."""
        if self.failure is None:
            self.model.eval()
            last_accuracies = self.curve["accuracy"][-max(1, len(self.curve["accuracy"]) // 10) :]
            final_accuracy, chance = sum(last_accuracies) / len(last_accuracies), self.y.bincount().max().item() / len(self.y)
            if final_accuracy < min(NO_BETTER_THAN_CHANCE * chance, (1 + chance) / 2):
                self.fail(f"the model ends at chance: {final_accuracy:.1%} on its training batches, {chance:.1%} by guessing")
        return self.failure or Training(self.curve, self.seconds, self.step_taken_by)


def _run(
    network, courses: list[_Course], end_step: int, steps: int, batch_size: int, augment: str, interval: float, rate, bar
) -> None:
    """Advance courses from their common step to `end_step`, or to the first point of the curve where one has failed."""
    points = {round((i + 1) * steps / CURVE_POINTS) for i in range(CURVE_POINTS)}
    last_save = started = time.monotonic()
    earlier_seconds = {id(course): course.seconds for course in courses}
    for step in range(courses[0].step, end_step):
        batches = [course.batch(batch_size, augment) for course in courses]
        network.set_rate(rate(step))
        try:
            network.advance(batches, step)
        except FloatingPointError as error:  # of a training alone; trainings together find it in their sums
            courses[0].fail(f"step {step}: {error}")
        all_sums = network.sums.tolist() if step + 1 in points else None  # the only place that waits for the device
        now = time.monotonic()
        for course in courses:
            course.step, course.seconds = step + 1, earlier_seconds[id(course)] + (now - started) / len(courses)
        if all_sums is not None and not any(course.failure for course in courses):
            for course, sums in zip(courses, all_sums, strict=True):
                course.point(sums)
            network.sums.zero_()
            loss, accuracy = (sum(course.curve[name][-1:] or [math.nan]) for name in ("loss", "accuracy"))
            bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.1%}", refresh=False)
        bar.update()
        failed = any(course.failure for course in courses)
        save_due = now - last_save > interval and any(course.member.checkpoint is not None for course in courses)
        if failed or save_due or step + 1 == end_step:
            network.store()
        if failed:
            return
        if save_due:
            for course in courses:
                if course.member.checkpoint is not None:
                    course.save()
            last_save = time.monotonic()


class _SingleSteps:
    """The steps of one training, as the framework or the compiled attack takes them."""

    def __init__(self, course: _Course, attack: dict | None, robust_loss: Callable | None, steps: int) -> None:
        self.course, self.attack, self.robust_loss, self.steps = course, attack, robust_loss, steps
        self.sums, self.compiled = course.sums[None], None

    def set_rate(self, rate: float) -> None:
        for group in self.course.algorithm.param_groups:
            group["lr"] = rate

    def advance(self, batches: list[tuple[Images, Labels]], step: int) -> None:
        model, generator, ((batch, labels),) = self.course.model, self.course.generator, batches
        with surroundings.seeded((self.course.member.seed * 1_000_003 + step) % 2**63, batch.device):  # for dropout
            if self.attack is not None:
                batch = attacks.pgd(model, batch, labels, generator=generator, **adversary(self.attack, step, self.steps))
            model.train()
            loss, correct = self._backward(batch.contiguous(memory_format=torch.channels_last), labels, step)
        self.course.step_taken_by = "compiled" if self.compiled else "framework"
        self.course.algorithm.step()
        self.sums += torch.stack([loss, correct.float().mean()])

    def _backward(self, batch: Images, labels: Labels, step: int) -> tuple[Tensor, Tensor]:
        """(the loss, whether each image counts as correct); the gradient of the loss lies in the parameters."""
        model = self.course.model
        if self.robust_loss is None:
            if self.compiled is None:  # asked once: every batch has as many images
                self.compiled = forms.training_step_of(model, batch) or False
            if self.compiled:
                return self.compiled(batch, labels)
            logits = model(batch)
            loss, correct = F.cross_entropy(logits, labels), logits.argmax(1) == labels
        else:
            loss, correct = self.robust_loss(model, batch, labels, step / self.steps, self.course.generator)
        self.course.algorithm.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach(), correct

    def store(self) -> None:
        """Nothing: network, optimizer and sums are the course's own."""


class _StackedSteps:
    """The steps of several trainings at once: their weights and their optimizers' states stacked, their images interleaved.

    Whatever changes between two steps lies in tensors that stay where they are, so that on a GPU a step is one captured graph,
    which nothing waits for.
    """

    def __init__(
        self, courses: list[_Course], make_optimizer: Callable, batch_size: int, attack: dict | None, steps: int
    ) -> None:
        self.courses, self.attack, self.steps = courses, attack, steps
        x, members = courses[0].x, len(courses)
        models = [course.model for course in courses]
        self.network = stacked.stacked(models) if members > 1 else models[0]
        self.weights = list(self.network.parameters())
        self.captured = forms.captures(self.network, x)
        for course in courses:
            course.step_taken_by = "captured" if self.captured else "framework"
        self.algorithm = make_optimizer(self.network, captured=self.captured)
        slots = [checkpoints.slots_of(course.algorithm) for course in courses]
        checkpoints.load_slots(self.algorithm, {i: stacked.joined([of_member[i] for of_member in slots]) for i in slots[0]})
        self.sums = torch.stack([course.sums for course in courses])
        self.x = x.new_zeros(members, batch_size, *x.shape[1:])
        self.y = courses[0].y.new_zeros(members, batch_size)
        # In the layout in which `pgd` draws it, channels last.
        self.start = torch.zeros_like(self.x.movedim(2, -1), memory_format=torch.contiguous_format).movedim(-1, 2)
        self.eps = torch.zeros((), dtype=torch.float64, device=x.device)
        self.step_size = x.new_zeros(())
        self.replay = None

    def set_rate(self, rate: float) -> None:
        for group in self.algorithm.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def advance(self, batches: list[tuple[Images, Labels]], step: int) -> None:
        random_start = self.attack is not None and self.attack.get("random_start", True)
        if self.attack is not None:
            settings = adversary(self.attack, step, self.steps)
            self.eps.fill_(settings["eps"])
            self.step_size.fill_(settings["step_size"])
        # Launches outside the graph: three a member (images, labels, start), and two for all members.
        torch._foreach_copy_(list(self.x), [batch for batch, _ in batches])
        torch._foreach_copy_(list(self.y), [labels for _, labels in batches])
        if random_start:
            for course, start in zip(self.courses, self.start, strict=True):
                start.uniform_(-settings["eps"], settings["eps"], generator=course.generator)
        if self.replay is None:
            changed = [*self.network.state_dict().values(), self.sums]
            changed += [slot for slots in self.algorithm.state.values() for slot in slots.values()]
            self.replay = forms.capture(self._advance, changed) if self.captured else self._advance
        self.replay()

    def _advance(self) -> None:
        x, y, start = (part.transpose(0, 1).flatten(0, 1) for part in (self.x, self.y, self.start))
        n = self.x.shape[1]
        if len(self.courses) == 1:
            x = x.contiguous(memory_format=torch.channels_last)  # as its network's weights lie
        not_finite = x.new_zeros(len(self.courses))
        if self.attack is not None:
            with attacks.frozen(self.network):
                x, gradients = attacks.steps(
                    self.network, x, y, start, eps=self.eps, step_size=self.step_size,
                    num_steps=int(self.attack["num_steps"]), bounds=self.attack.get("bounds", (0.0, 1.0)),
                )  # fmt: skip
            not_finite = gradients.view(n, -1).sum(0) * 0  # NaN where a gradient was not finite
        self.network.train()
        logits = self.network(x)
        losses = F.cross_entropy(logits, y, reduction="none").view(n, -1).mean(0)  # each member's own
        for weight, gradient in zip(self.weights, torch.autograd.grad(losses.sum(), self.weights), strict=True):
            weight.grad = gradient
        self.algorithm.step()
        correct = (logits.argmax(1) == y).view(n, -1).double().mean(0)
        self.sums += torch.stack([losses.detach() + not_finite, correct], dim=1)

    def store(self) -> None:
        """Give each course its network's weights, its optimizer's state and its sums."""
        members, state = len(self.courses), self.algorithm.state_dict()["state"]
        for i, course in enumerate(self.courses):
            if members > 1:
                course.model.load_state_dict(stacked.part(self.network.body.state_dict(), i, members))
            checkpoints.load_slots(course.algorithm, {index: stacked.part(slots, i, members) for index, slots in state.items()})
            course.sums = self.sums[i].clone()
