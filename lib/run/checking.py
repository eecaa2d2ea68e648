"""Checks a recorded number: attacks the kept weights again, or measures a quantity again, and compares.

found = checking.check(grid.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop"))
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from lib import attacks, certified, data, evaluation
from lib.run import devices, evaluations, material, measurements
from lib.store import plans, records, weights
from lib.store.grid import Item, Measurement, Run

SECONDS = 5.0  # of the attack, as the record measured it; on a slower machine it still ends within a minute
LONGEST = 30.0  # seconds; a measurement that took longer is not repeated
FEWEST = 20  # images that are attacked, however long it takes
ROUNDING = 1e-6  # the tolerance for a measured number, as a share of the number
CHANCE = 0.001  # chance does not explain an outcome that is less likely than this


@dataclass(frozen=True)
class Compared:
    """Outcomes of the same images, recorded and found again: two shares in percent, and how many images differ either way."""

    images: int
    recorded: float
    found: float
    more: int  # true now, but false in the record
    fewer: int

    @staticmethod
    def of(recorded: torch.Tensor, found: torch.Tensor) -> "Compared":
        """Both: a truth value for each image."""
        shares = (100 * bits.double().mean().item() for bits in (recorded, found))
        return Compared(len(found), *shares, int((found & ~recorded).sum()), int((recorded & ~found).sum()))

    @property
    def by_rounding(self) -> bool:
        """Whether another processor's rounding explains the images that differ: it tips them either way, alike. An exact sign
        test must not find that one side has more (p < .001).
        """
        from scipy.stats import binomtest  # its import takes a quarter of the command line's start

        return not (self.more + self.fewer) or bool(binomtest(self.more, self.more + self.fewer).pvalue >= CHANCE)


@dataclass(frozen=True)
class Check:
    """What was compared: by metric the outcomes on the first `images` of `of`, or how far measured numbers differ."""

    item: Item
    name: str
    compared: dict[str, Compared]
    images: int = 0
    of: int = 0
    numbers: int = 0
    apart: float = 0.0  # the largest difference of two measured numbers, as a share of the recorded one

    @property
    def found(self) -> bool:
        """Whether the record is found again, except for differences that rounding explains."""
        return self.apart <= ROUNDING and all(both.by_rounding for both in self.compared.values())

    def __str__(self) -> str:
        about = f"{self.name} of {self.item}"
        if isinstance(self.item, Measurement):
            lines = [f"{about}, {self.numbers} numbers", f"largest relative difference: {self.apart:.1e}, allowed {ROUNDING:g}"]
        else:
            lines = [f"{about}, the first {self.images} of {self.of} test images"]
            width = max(map(len, self.compared))
            lines += [
                f"{metric:{width}}  recorded {both.recorded:6.2f}%  found {both.found:6.2f}%  images that differ: "
                f"{both.more + both.fewer} ({both.more} now true, {both.fewer} now false)"
                for metric, both in self.compared.items()
            ]
        differ = self.apart or sum(both.more + both.fewer for both in self.compared.values())
        rounding = ", except for differences that the rounding of another processor explains" if differ else ", exactly"
        lines.append(f"found again{rounding}" if self.found else "NOT found again: rounding does not explain the differences")
        return "\n".join(lines)


def check_command(item: Item, name: str = "") -> str:
    """What checks the record `name` of `item`; without a name its first evaluation."""
    of = "" if name in ("", "measured", default(item)) else f" --evaluation {name}"
    return f"python -m lib check {item.key} --scale {item.scale}{of}"


def anew_command(item: Item, record: dict) -> str:
    """What computes the records of `item` anew, into another folder, on as many threads as its record was computed on."""
    threads = threads_of(record)
    folders, device = "RESULTS_DIR=again ", ""
    if isinstance(item, Run):
        folders, device = f"{folders}CHECKPOINT_DIR=again/checkpoints ", f" --device {'cpu' if threads else 'cuda'}"
    threads = f"OMP_NUM_THREADS={threads} " if threads else ""
    return f"{folders}{threads}python -m lib run {item.key} --scale {item.scale}{device}"


def threads_of(record: dict) -> int | None:
    """How many threads of a processor computed a record; None for a GPU's."""
    threads = re.search(r", ([0-9]+) threads?$", record["device"])
    return int(threads[1]) if threads else None


def default(item: Item) -> str:
    """The record that is checked where none is named."""
    return next(name for name in plans.of(item).records() if name != "training")


def code_of(item: Item, name: str) -> list[Callable]:
    """The functions that compute the record `name` of `item`: what is taken of the network, and what attacks it."""
    if isinstance(item, Measurement):
        return [measurements.measured]
    resolved = plans.of(item).evaluation(name).settings
    taken = evaluations.kind_of(resolved)
    functions = [taken, evaluation.survives if "against" in resolved else evaluation.evaluate]
    functions += [attacks.autoattack] * ("autoattack" in resolved) + [attacks.pgd] * ("threat_model" in resolved)
    functions += [evaluation.survives] * ("ramp" in resolved)
    functions += [attacks.square] * (not {"ramp", "square"}.isdisjoint(resolved))
    return functions + [certified.margins] * ("certificate" in resolved)


def check(item: Item, name: str = "", images: int | None = None) -> Check:
    """Compute the record `name` of `item` again, by default its first evaluation, and compare it with what is recorded.

    A run's kept weights are evaluated on the first `images` test images of the record, by default as many as took 5 seconds
    then, on as many threads as then. ValueError for a record that `item` does not have, a training, or `images` < 1;
    FileNotFoundError where there is no record, or no weights of it are kept; RecordError where the record is stale or failed,
    or of other images than are here.
    """
    name = name or default(item)
    allowed = [known for known in plans.of(item).records() if known != "training"]
    if name not in allowed:
        raise ValueError(f"{name!r} is not an evaluation of {item}; allowed: {', '.join(allowed)}")
    if images is not None and images < 1:
        raise ValueError(f"images must be ≥ 1, given {images}")
    state = records.status(item, name)
    if state == "missing":
        raise FileNotFoundError(f"{item} has no record {name}; python -m lib run {item.key} --scale {item.scale} computes it")
    record = records.read(item, name)
    if state != "recorded":
        raise records.RecordError(f"the record {name} of {item} is {state}, so it has no number to check")
    if isinstance(item, Measurement):
        return _measured(item, record)
    return _attacked(item, name, record, images)


def check_kept(run: Run, images: int = 500) -> None:
    """Evaluate the kept weights of `run` again, on the first so many test images: PGD-trained ones under the paper's attack.

    RecordError, with the numbers, where rounding does not explain the images that differ: these weights do not give the record.
    Raises what `check` raises.
    """
    for metric, both in check(run, default(run), images).compared.items():
        if not both.by_rounding:
            raise records.RecordError(
                f"{weights.path(run)} does not give its record: on {both.images} images {metric} is {both.found:.1f}%, "
                f"recorded {both.recorded:.1f}%; {both.more} images are robust only now, {both.fewer} only in the record. The "
                f"record stays; delete the file to have it written again"
            )


def keep_weights(run: Run) -> bool:
    """Keep the weights of a run that was trained here before, if its are kept at all. Returns whether any were written.

    They are attacked again, as `check_kept` does, and raise what it raises.
    """
    model = material.finished(run, torch.device("cpu")) if plans.of(run).keeps_weights else None
    written = model is not None and weights.keep(run, model)
    if written and records.status(run, default(run)) == "recorded":
        check_kept(run)
    return written


def _attacked(run: Run, name: str, record: dict, images: int | None) -> Check:
    _check_data(run, plans.of(run).settings["data"]["source"], record)
    device = devices.device("cpu")
    model = _network(run, record)
    other = plans.of(run).evaluation(name).surrogate
    if other and material.finished(other, device) is None:
        raise _no_weights(other, record, "its attack is crafted on that network")
    of = record["sizes"]["test"]
    threads = threads_of(record)
    if images is None:
        share = SECONDS / max(record["seconds"], 1e-9) if threads else 0.0  # a GPU's seconds say nothing of a processor's
        images = max(FEWEST, math.floor(share * sum(record["sizes"].values())))
    images = min(images, of)
    x, y, _ = material.images_of(run, "test", of, device)
    before = torch.get_num_threads()
    torch.set_num_threads(min(threads or before, max(os.cpu_count() or 1, before)))
    try:
        resolved = record["settings"]["evaluation"]
        outcomes = evaluations.outcomes_of(run, name, resolved, model, x[:images], y[:images], f"{run.key}, {name}")
    finally:
        torch.set_num_threads(before)
    compared = {
        metric: Compared.of(records.unpack(record["outcomes"]["test"][metric], of)[:images], outcome)
        for metric, outcome in outcomes.items()
    }
    return Check(run, name, compared, images, of)


def _network(run: Run, record: dict) -> torch.nn.Module:
    """The network that the record is of: kept beside it, or of a training on this machine."""
    if weights.path(run).exists():
        return weights.load(run)
    model = material.finished(run, torch.device("cpu"))
    if model is None:
        raise _no_weights(run, record)
    return model


def _no_weights(run: Run, record: dict, why: str = "") -> FileNotFoundError:
    because = f" ({why})" if why else ""
    return FileNotFoundError(
        f"the weights of {run} are not kept{because}; train it again and compare the records: {anew_command(run, record)}"
    )


def _check_data(item: Item, source: str, record: dict) -> None:
    here = data.load(source, "test").digest
    if record.get("data", {}).get("test", here) != here:
        raise records.RecordError(f"the record of {item} was computed on other images than the {source!r} of this machine")


def _measured(item: Measurement, record: dict) -> Check:
    if record["seconds"] > LONGEST:
        raise ValueError(
            f"{item} took {record['seconds']:.0f} seconds, too long for a check; measure it again with: "
            f"{anew_command(item, record)}"
        )
    if "data" in record:
        _check_data(item, plans.of(item).settings["data"]["source"], record)
    content, _ = measurements.measured(item)
    parts = ("metrics", "histogram", "table")
    was, now = ([*_numbers([held[part] for part in parts if part in held])] for held in (record, content))
    apart = max((abs(a - b) / max(abs(a), 1e-300) for a, b in zip(was, now, strict=False) if a != b), default=0.0)
    return Check(item, "measured", {}, numbers=len(was), apart=apart if len(was) == len(now) else math.inf)


def _numbers(value: object) -> Iterator[float]:
    """All numbers of a record's content, in its order; of a mapping in that of its names."""
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, (int, float)):
        yield float(value)
