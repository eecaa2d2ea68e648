"""The items of the grid, each named by its key: a `Run`, one trained model, or a `Measurement`. Both check their settings."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import yaml

from lib import transforms
from lib.store import schema

SCALES = ("paper", "laptop", "smoke")  # the highest first
TRAININGS = ("standard", "pgd", "lp")


@cache
def spec() -> dict:
    """All that `experiments.yml` declares."""
    with (Path(__file__).parent / "experiments.yml").open(encoding="utf-8") as file:
        return yaml.safe_load(file)


def one_of(kind: str, given: object, allowed: Iterable) -> None:
    """ValueError, listing what is allowed, for anything else."""
    allowed = list(allowed)
    if given not in allowed:
        raise ValueError(f"unknown {kind} {given!r}; allowed: {', '.join(map(str, allowed))}")


def check_scale(scale: str) -> None:
    """ValueError, naming the scales, for any other."""
    one_of("scale", scale, SCALES)


def spaces() -> list[str]:
    """The distributions of points that stand where a data set may: simulated, without images."""
    return list(spec()["spaces"])


@cache
def _check_transform(name: str) -> None:
    transforms.parse(name, factor=1.0)


@dataclass(frozen=True)
class Run:
    """One trained model. `key` is its name everywhere: record, checkpoint, log, command line, cluster job."""

    dataset: str
    transform: str
    model: str
    widen_factor: float
    training: str
    train_size: int
    recipe: str
    seed: int
    scale: str

    def __post_init__(self) -> None:
        check_scale(self.scale)
        one_of("dataset", self.dataset, spec()["datasets"])
        one_of("model", self.model, spec()["models"])
        one_of("training", self.training, TRAININGS)
        one_of("recipe", self.recipe, spec()["recipes"])
        _check_transform(self.transform)
        if not 0 < self.widen_factor < math.inf:
            raise ValueError(f"widen_factor must be > 0 and finite, given {self.widen_factor!r}")
        largest = dataset_settings(self.dataset, self.scale)["train_size"]
        if not 1 <= self.train_size <= largest:
            raise ValueError(
                f"train_size must be from 1 to {largest} for {self.dataset} at {self.scale}, given {self.train_size}"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, given {self.seed}")

    @property
    def key(self) -> str:
        """E.g. `mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed0`."""
        short = f"{self.widen_factor:g}"
        width = short if float(short) == self.widen_factor else repr(self.widen_factor)
        return (
            f"{self.dataset}/{self.transform}/{self.model}-w{width}/{self.training}"
            f"/n{self.train_size}/{self.recipe}/seed{self.seed}"
        )

    def __str__(self) -> str:
        return f"{self.scale}: {self.key}"

    @staticmethod
    def parse(key: str, scale: str) -> "Run":
        """The run called `key`. ValueError, saying what a key looks like, for anything else."""
        try:
            dataset, transform, network, training, size, recipe, seed = key.strip("/").split("/")
            model, _, widen_factor = network.rpartition("-w")
            # `int` accepts digits of other scripts; such a key would name another run.
            if (size[:1], seed[:4]) != ("n", "seed") or not key.isascii():
                raise ValueError
            values = (float(widen_factor), int(size[1:]), int(seed[4:]))
        except ValueError:
            raise ValueError(
                f"{key!r} is not a run's key; a key is DATASET/TRANSFORM/MODEL-wWIDEN_FACTOR/TRAINING/nTRAIN_SIZE/RECIPE/"
                f"seedSEED, such as mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed0"
            ) from None
        run = Run(dataset, transform, model, values[0], training, values[1], recipe, values[2], scale)
        if run.key != key.strip("/"):
            raise ValueError(f"{key!r} is not a run's key as it is written; {run.key} is meant")
        return run


@dataclass(frozen=True)
class Measurement:
    """A quantity of a data set or of a space, measured without training; it has a record of its own."""

    quantity: str
    dataset: str
    transform: str
    scale: str

    def __post_init__(self) -> None:
        check_scale(self.scale)
        one_of("dataset", self.dataset, [*spec()["datasets"], *spaces()])
        _check_transform(self.transform)
        one_of("quantity", self.quantity, schema.QUANTITIES)
        of = spec()["quantities"].get(self.quantity)
        if of is not None and self.dataset not in of:
            raise ValueError(f"{self.quantity} is not measured of {self.dataset!r}; allowed: {', '.join(of)}")
        if of is None and self.dataset in spaces():
            raise ValueError(f"{self.quantity!r} is not measured of {self.dataset!r}, which has no images")
        if self.dataset in spaces() and self.transform != "original":
            raise ValueError(
                f"{self.dataset} is a distribution of points, which is not transformed; "
                f"allowed: original; given {self.transform!r}"
            )

    @property
    def key(self) -> str:
        """E.g. `measured/log2_perturbable_volume/mnist/smooth-3`."""
        return f"measured/{self.quantity}/{self.dataset}/{self.transform}"

    def __str__(self) -> str:
        return f"{self.scale}: {self.key}"


Item = Run | Measurement


def parse(key: str, scale: str) -> Item:
    """The run or measurement called `key`. ValueError, saying what a key looks like, for anything else."""
    if not key.startswith("measured/"):
        return Run.parse(key, scale)
    parts = key.split("/")
    if len(parts) != 4:
        raise ValueError(f"{key!r} is not a measurement's key; a key is measured/QUANTITY/DATASET/TRANSFORM")
    return Measurement(*parts[1:], scale=scale)


def merged(base: dict, *overrides: dict | None) -> dict:
    """`base` with overrides laid over it, mapping by mapping."""
    result = copy.deepcopy(base)
    for override in overrides:
        for name, value in (override or {}).items():
            both = isinstance(value, dict) and isinstance(result.get(name), dict) and name != "schedule"
            result[name] = merged(result[name], value) if both else copy.deepcopy(value)
    return result


def numbers(value):
    """Fractions such as '8/255' as floats, anywhere in the settings."""
    if isinstance(value, dict):
        return {str(name): numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    if isinstance(value, str) and value.replace("/", "", 1).isdigit():
        return float(Fraction(value))
    return value


@cache
def dataset_settings(name: str, scale: str) -> dict:
    """The settings of a data set at a scale; ValueError where it has none."""
    declared = spec()
    overrides = declared["scales"][scale].get("datasets", {})
    if overrides and name not in overrides:
        raise ValueError(f"dataset {name!r} has no settings at scale {scale}; allowed: {', '.join(overrides)}")
    return numbers(merged(declared["datasets"][name], overrides.get(name)))
