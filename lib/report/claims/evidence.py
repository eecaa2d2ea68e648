"""The numbers that a check reads: the records of one scale, with intervals, and the names of the paper's variants."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from lib.store import grid, plans
from lib.store.intervals import Estimate, Spreads, of_records

COMPARABLE = 3.0  # points
PLATEAU = 1.0  # points
NOT_COMPUTED = "not computed"
PUBLISHED = "published"  # the scale of the paper's own numbers

SMOOTHING = ("original", *(f"smooth-{size}" for size in range(2, 9)))
MNIST = ("binarize", *SMOOTHING)
_LEVELS = ("1", "1.5", "1.75", "2", "2.25", "2.5", "3", "4", "8", "16", "64", "128", "256", "512", "inf")
SATURATION = tuple("original" if level == "2" else f"saturate-{level}" for level in _LEVELS)
GAMMAS = ("gamma-0.6", "gamma-0.8", "original", "gamma-1.2", "gamma-1.4")
FASHION = ("original", "edges")

_COLUMNS = (
    "dataset", "transform", "model", "widen_factor", "training", "train_size", "recipe", "seed",
    "split", "metric", "value", "n", "source",
)  # fmt: skip
DIMENSION = {"mnist": 784, "cifar10": 3072}
STANDARD_CLEAN, PGD_CLEAN = ("standard", "clean_accuracy"), ("pgd", "clean_accuracy")
ROBUST, TO_PREDICTIONS = ("pgd", "robust_accuracy"), ("pgd", "robustness_wrt_predictions")
# The exhibits that train along an axis: the rest of their settings may be other than the reference's.
_ALONG = {"widen_factor": "figure-4-capacity", "train_size": "figure-4-samples"}


class AbsentError(LookupError):
    """A number that a check needs is not recorded; the message says which."""


@dataclass(frozen=True)
class Finding:
    """Whether the records support a claim, and the numbers behind this; `holds` is None for a question that has no yes or no.

    `absent`: a number is not recorded, and `evidence` says which. `undecided`: the records do not show the claim, and their
    intervals do not exclude it either.
    """

    holds: bool | None
    evidence: str
    absent: bool = False
    undecided: bool = False

    def __and__(self, other: "Finding") -> "Finding":
        undecided = not (self.holds and other.holds) and all(each.holds or each.undecided for each in (self, other))
        return Finding(self.holds and other.holds, f"{self.evidence}; {other.evidence}", undecided=undecided)


def finding_of(judge: Callable[..., Finding], records: object) -> Finding:
    """The finding of a check on the numbers of a reader; if a number is absent, a finding that says so."""
    try:
        return judge(records)
    except AbsentError as error:
        return Finding(None, str(error), absent=True)


def is_declared(block: str, scale: str) -> bool:
    """Whether an exhibit of the grid is declared at a scale; `auto` is one that it has."""
    return scale == "auto" or scale in grid.exhibit(block)["scales"]


class Records:
    """The rows of one scale and one CIFAR10 set, as a check reads them; `rows_read` has those that it has read.

    `spreads`: how far trainings differ whose seeds alone differ.
    """

    def __init__(self, rows: pd.DataFrame, scale: str, cifar10: str, spreads: Spreads) -> None:
        self.scale, self.cifar10 = scale, cifar10
        self._spreads = spreads
        self.rows_read: dict[int, tuple] = {}
        self._rows: dict[tuple, list] = {}  # by data set, training, metric and split
        is_table = rows["metric"].isna()
        for row in rows.loc[~is_table, list(_COLUMNS)].itertuples():
            self._rows.setdefault((row.dataset, row.training, row.metric, row.split), []).append(row)
        self._tables = rows[is_table]

    def _name(self, dataset: str) -> str:
        return self.cifar10 if dataset == "cifar10" else dataset

    @property
    def _settings_scale(self) -> str:
        return "paper" if self.scale == PUBLISHED else self.scale

    def _first_run(self, exhibit: str, training: str | None = None) -> grid.Run:
        """Of an exhibit, of one training if given: `AbsentError` where the exhibit has no such run."""
        runs = grid.runs(exhibit, self._settings_scale, cifar10=self.cifar10)
        for run in runs:
            if training in (None, run.training):
                return run
        raise AbsentError(f"{exhibit} has no {training} training at scale {self._settings_scale}")

    def _reference(self, dataset: str) -> grid.Run:
        return self._first_run(grid.REFERENCE[dataset])

    def _trained(self, dataset: str, quantity: tuple[str, str], split: str, **settings: object) -> list:
        """Rows of the network of Sections 3 and 4 that were recorded with these settings."""
        settings = {"model": self._reference(dataset).model, **settings}
        rows = self._rows.get((self._name(dataset), *quantity, split), [])
        return [row for row in rows if all(getattr(row, name) == value for name, value in settings.items())]

    def _estimate(self, rows: Iterable) -> Estimate:
        by_seed = {row.seed: row for row in rows}
        self.rows_read.update({row.Index: row for row in by_seed.values()})
        first = next(iter(by_seed.values()))
        values, sizes = zip(*((row.value, int(row.n)) for row in by_seed.values()), strict=True)
        return of_records(values, sizes, self._spreads, first.model, first.training, first.metric, first.split)

    def accuracies(
        self, dataset: str, quantity: tuple[str, str], variants: Iterable[str], *, at_least: int = 2, exhibit: str | None = None
    ) -> dict[str, Estimate]:
        """By variant, in the order given: a training's metric, of the network of Sections 3 and 4 trained on all images.

        At least so many of them, else `AbsentError`. `exhibit`: the one whose length of training counts (its recipe), by
        default Table 2, Table 3 or Figure 3b. Numbers of two lengths are never compared.
        """
        by_variant = self._by_variant(dataset, quantity, exhibit)
        estimates = {name: self._estimate(by_variant[name]) for name in variants if name in by_variant}
        if len(estimates) < at_least:
            message = f"needs {quantity[1]} of {quantity[0]} training on {at_least} variants of {dataset}"
            raise AbsentError(f"{message}; recorded: {', '.join(estimates) or 'none'}")
        return estimates

    def _by_variant(self, dataset: str, quantity: tuple[str, str], exhibit: str | None) -> dict[str, list]:
        """The rows of `accuracies`, of all variants."""
        run = self._first_run(exhibit or grid.REFERENCE[dataset], quantity[0])
        settings = {"widen_factor": run.widen_factor, "train_size": run.train_size, "recipe": run.recipe}
        by_variant: dict[str, list] = {}
        for row in self._trained(dataset, quantity, "test", **settings):
            by_variant.setdefault(row.transform, []).append(row)
        return by_variant

    def accuracy(self, dataset: str, variant: str, quantity: tuple[str, str], *, exhibit: str | None = None) -> Estimate:
        """Of one variant, `exhibit` as in `accuracies`; `AbsentError` without it."""
        estimates = self.accuracies(dataset, quantity, [variant], at_least=0, exhibit=exhibit)
        if variant not in estimates:
            raise AbsentError(f"needs {quantity[1]} of {quantity[0]} training on {dataset} {variant}")
        return estimates[variant]

    def over(self, axis: str, dataset: str, quantity: tuple[str, str], split: str) -> dict[str, dict[float, Estimate]]:
        """By variant, then by `widen_factor` or `train_size`, ascending; variants with at least two. Section 5.3's settings."""
        other = "train_size" if axis == "widen_factor" else "widen_factor"
        recipe = self._first_run(f"{_ALONG[axis]}-{dataset}", quantity[0]).recipe
        settings = {other: getattr(self._reference(dataset), other), "recipe": recipe}
        rows_by_place: dict[str, dict[float, list]] = {}
        for row in self._trained(dataset, quantity, split, **settings):
            # A column gives numpy's numbers; a single place gives Python's.
            place = int(row.train_size) if axis == "train_size" else float(row.widen_factor)
            rows_by_place.setdefault(row.transform, {}).setdefault(place, []).append(row)
        estimates = {
            variant: {place: self._estimate(rows) for place, rows in sorted(rows_by_place[variant].items())}
            for variant in (MNIST if dataset == "mnist" else SATURATION)
            if len(rows_by_place.get(variant, {})) > 1
        }
        if not estimates:
            unit = "widths" if axis == "widen_factor" else "training set sizes"
            raise AbsentError(f"needs {quantity[1]} ({split}) of {quantity[0]} training on {dataset} at two {unit}")
        return estimates

    def certified(self, dataset: str, variant: str, metric: str = "certified_error") -> Estimate:
        """Of the LP-robust model of one variant; `AbsentError` without it."""
        rows = [row for row in self._rows.get((self._name(dataset), "lp", metric, "test"), []) if row.transform == variant]
        if not rows:
            raise AbsentError(f"needs {metric} of the LP-robust model on {dataset} {variant}")
        return self._estimate(rows)

    def under_all(self, metrics: Iterable[str], exhibits: str) -> dict[str, list[Estimate]]:
        """By PGD-trained model (data set and variant), its accuracies, of the models that have all these metrics.

        The models are those of `exhibits` of each data set: `strength` stands for strength-mnist and strength-cifar10.
        """
        by_model, quantities = {}, [("pgd", metric) for metric in metrics]
        for dataset, variants in (("mnist", MNIST), ("cifar10", SATURATION)):
            recorded = [self._by_variant(dataset, quantity, f"{exhibits}-{dataset}") for quantity in quantities]
            for name in variants:
                if all(name in by_variant for by_variant in recorded):
                    by_model[f"{dataset} {name}"] = [self._estimate(by_variant[name]) for by_variant in recorded]
        return by_model

    def measured(self, dataset: str, quantity: str, variants: Iterable[str], *, at_least: int = 2) -> dict[str, float]:
        """A quantity of the data, by variant, in the order given. At least so many of them, else `AbsentError`."""
        key = (self._name(dataset), "", quantity)
        by_variant = {row.transform: row for split in ("test", "") for row in self._rows.get((*key, split), [])}
        rows = {name: by_variant[name] for name in variants if name in by_variant}
        if len(rows) < at_least:
            raise AbsentError(f"needs {quantity} of {at_least} variants of {dataset}; recorded: {', '.join(rows) or 'none'}")
        self.rows_read.update({row.Index: row for row in rows.values()})
        return {name: float(row.value) for name, row in rows.items()}

    def table(self, space: str, *columns: str) -> pd.DataFrame:
        """The table of a simulation in the space: the rows that have all these columns; `AbsentError` without any."""
        rows = self._tables[self._tables["dataset"] == self._name(space)]
        rows = rows.dropna(subset=columns) if {*columns} <= {*rows.columns} else rows[:0]
        if rows.empty:
            raise AbsentError(f"needs a simulation of the {space} with {', '.join(columns)}")
        rows_with_columns = rows.reindex(columns=list(_COLUMNS)).assign(training="")
        self.rows_read.update({row.Index: row for row in rows_with_columns.assign(n=rows["n"]).itertuples()})
        return rows

    def position(self, dataset: str, variant: str) -> float:
        """The mean log2 volume as a place in its valid range, from 0 (corners of the cube) to 1 (away from all faces)."""
        volume = self.measured(dataset, "log2_perturbable_volume", [variant], at_least=1)[variant]
        name = self._name(dataset)
        eps = plans.of(grid.Measurement("log2_perturbable_volume", name, "original", self._settings_scale)).settings["eps"]
        return volume / DIMENSION[dataset] - math.log2(eps)

    def paper_settings(self, *datasets: str) -> None:
        """`AbsentError` unless these are the paper's own data sets and settings: for claims that are numbers."""
        if self.scale not in (PUBLISHED, "paper") or (self.cifar10 != "cifar10" and "cifar10" in datasets):
            data = f"{self.cifar10}, " if "cifar10" in datasets else ""
            raise AbsentError(f"needs numbers at the paper's own settings; recorded: {data}scale {self.scale}")
