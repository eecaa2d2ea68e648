"""The grid of all trainings and measurements, as data: expands `experiments.yml`, where scales override settings only.

grid.runs("table-2", scale="laptop")    # the models an exhibit needs
grid.settings(run)                      # everything that decides a run's numbers
"""

import os
from dataclasses import fields, replace
from functools import cache
from itertools import product

from lib import data
from lib.store.items import (
    SCALES,
    Item,
    Measurement,
    Run,
    check_scale,
    dataset_settings,
    merged,
    numbers,
    one_of,
    parse,
    spaces,
    spec,
)

__all__ = ["SCALES", "Item", "Measurement", "Run", "check_scale", "parse", "spaces"]  # of an item, and asked of the grid


# Raised by hand when a change of code can move a number: older records then count as stale. By network, so that a change to
# one leaves the others' records alone; a measurement, in which no network takes part, goes by "measured".
NUMERICS = {"measured": 2, "lenet5": 2, "small_convnet": 2, "wide_resnet28": 4}
_NOT_AXES = {"title", "where", "scales", "evaluations", "also", "stretch"}  # what else an exhibit's block may hold
_AXES = [field.name for field in fields(Run) if field.name != "scale"]
# The data sets that may stand for a `cifar10` block, in the order in which `auto` prefers them.
CIFAR10_SETS = ("cifar10", "cifar10-jpeg")
SET_NAMES = {name: known.label for name, known in data.DATASETS.items() if known.label}  # as a reader reads them


def exhibits() -> list[str]:
    """The names of the exhibits, in the order of `experiments.yml`."""
    return list(spec()["exhibits"])


def exhibit(name: str) -> dict:
    """The block of the exhibit `name`; ValueError, listing the names, for any other."""
    one_of("exhibit", name, exhibits())
    return spec()["exhibits"][name]


def cifar10_set() -> str:
    """The data set that stands for `cifar10`: the environment variable CIFAR10, or `cifar10` itself."""
    name = os.environ.get("CIFAR10") or "cifar10"
    if name not in CIFAR10_SETS:
        raise ValueError(f"CIFAR10={name} is not a data set; allowed: {', '.join(CIFAR10_SETS)}")
    return name


def _block(name: str, scale: str) -> dict:
    """The block of the exhibit `name`, what `scale` overrides laid over it. ValueError where it is not computed at `scale`."""
    block = exhibit(name)
    check_scale(scale)
    if scale not in block["scales"]:
        raise ValueError(f"{name} is not computed at scale {scale!r}; allowed: {', '.join(block['scales'])}")
    return {**block, **block["scales"][scale]}


def _axes(name: str, scale: str, cifar10: str | None) -> dict[str, list]:
    block = _block(name, scale)
    if cifar10 is not None:
        one_of("CIFAR10 set", cifar10, CIFAR10_SETS)
    axes = {key: value if isinstance(value, list) else [value] for key, value in block.items() if key not in _NOT_AXES}
    for axis in (*axes, *block.get("stretch", {})):
        one_of(f"axis of {name}", axis, ("quantity", *_AXES))
    # The built-in set has no JPEG twin: scale smoke keeps the name cifar10.
    stand_in = "cifar10" if scale == "smoke" else cifar10 or cifar10_set()
    axes["dataset"] = [stand_in if dataset == "cifar10" else dataset for dataset in axes["dataset"]]
    return axes


def runs(name: str, scale: str, *, seeds: int | str = "all", cifar10: str | None = None, stretches: bool = True) -> list[Item]:
    """What the exhibit `name` needs at `scale`: its runs, and those of the exhibits that it shows `also`; or its measurements.

    `seeds`: how many of the seeds, at most as many as the block declares, or "all". `cifar10`: the data set for
    `cifar10` blocks; by default `cifar10_set()`. `stretches`: with the runs that take so much longer than the others of the
    scale that they are computed by name alone. Raises ValueError for an unknown name, scale or number of seeds.
    """
    axes, beyond = _axes(name, scale, cifar10), _block(name, scale).get("stretch", {})
    if "quantity" in axes:
        return [Measurement(*values, scale=scale) for values in product(axes["quantity"], axes["dataset"], axes["transform"])]
    axes.setdefault("recipe", ["default"])
    axes.setdefault("train_size", ["all"])
    if seeds != "all":
        if not isinstance(seeds, int) or not 1 <= seeds <= len(axes["seed"]):
            raise ValueError(f"seeds must be 'all' or from 1 to {len(axes['seed'])} for {name} at {scale}, given {seeds!r}")
        axes["seed"] = axes["seed"][:seeds]
    expanded = []
    for values in product(*(axes[axis] for axis in _AXES)):
        chosen = dict(zip(_AXES, values, strict=True))
        chosen["widen_factor"] = float(chosen["widen_factor"])
        if chosen["train_size"] == "all":
            chosen["train_size"] = dataset_settings(chosen["dataset"], scale)["train_size"]
        if stretches or not beyond or any(chosen[axis] not in values for axis, values in beyond.items()):
            expanded.append(Run(**chosen, scale=scale))
    for other in _block(name, scale).get("also", []):
        listed = runs(other, scale, cifar10=cifar10, stretches=stretches)
        allowed = sorted({run.seed for run in listed})[: None if seeds == "all" else seeds]
        expanded += [run for run in listed if run.seed in allowed and run not in expanded]
    return expanded


def all_runs(scale: str, *, cifar10: str | None = None, stretches: bool = False) -> list[Item]:
    """Every run and measurement of every exhibit at `scale`, each once, in the order of the exhibits.

    `stretches`: with those that every exhibit leaves to be computed by name.
    """
    check_scale(scale)
    found: dict[str, Item] = {}
    for name in exhibits():
        if scale in exhibit(name)["scales"]:
            for item in runs(name, scale, cifar10=cifar10, stretches=stretches):
                found.setdefault(item.key, item)
    return list(found.values())


def every(scale: str) -> list[Item]:
    """`all_runs` of every CIFAR10 set there is, with the stretches; each item once."""
    return list(dict.fromkeys(item for name in CIFAR10_SETS for item in all_runs(scale, cifar10=name, stretches=True)))


def exhibits_of(item: Item) -> list[str]:
    """The exhibits that show `item`."""
    stand_in = item.dataset if item.dataset in CIFAR10_SETS else CIFAR10_SETS[0]
    return list(_shown_by(item.scale, stand_in).get(item, []))


@cache
def _shown_by(scale: str, cifar10: str) -> dict[Item, list[str]]:
    """By item, the exhibits that show it: to expand every exhibit for each item would take seconds."""
    found: dict[Item, list[str]] = {}
    for name in exhibits():
        if scale in exhibit(name)["scales"]:
            for item in runs(name, scale, cifar10=cifar10):
                found.setdefault(item, []).append(name)
    return found


def numerics(item: Item) -> int:
    """The present revision of the code that computes `item`'s numbers."""
    return NUMERICS["measured" if isinstance(item, Measurement) else item.model]


def _shape(run: Run) -> dict:
    """The shape of the images, where the network is used for more than one."""
    channels, size, _ = data.DATASETS[dataset_settings(run.dataset, run.scale)["source"]].shape
    return {"in_channels": channels, "image_size": size} if run.model == "small_convnet" else {}


def network(run: Run) -> dict:
    """The keyword arguments of `models.build`: the settings of the model, and what its images and classes ask for."""
    known = data.DATASETS[dataset_settings(run.dataset, run.scale)["source"]]
    shape = {"in_channels": known.shape[0], "image_size": known.shape[1], "classes": known.classes}
    return {**settings(run)["model"], **shape}


def settings(item: Item) -> dict:
    """Everything that decides the numbers of a run's training, or of a measurement; plain JSON values.

    For a run: `data` (source and sizes), `model`, `training` (the keyword arguments of `training.train`) and, for PGD
    training, `attack` (the threat model it trains against), for LP training `certificate` (what its bounds are for).
    """
    declared = spec()
    space = item.dataset in spaces()
    dataset = {"source": item.dataset} if space else dataset_settings(item.dataset, item.scale)
    about = {"source": dataset["source"], "transform": item.transform}
    if isinstance(item, Measurement):
        if item.quantity in declared["quantities"]:
            overrides = declared["scales"][item.scale].get("quantities", {}).get(item.quantity, {})
            chosen = merged(declared["quantities"][item.quantity][item.dataset], overrides.get(item.dataset))
            return {"data": about, "quantity": item.quantity, **numbers(chosen)}
        about["test_size"] = dataset["test_size"]
        return {"data": about, "quantity": item.quantity, "eps": dataset["threat_model"]["eps"]}
    training = numbers(
        merged(
            declared["models"][item.model],
            declared["scales"][item.scale].get("models", {}).get(item.model),
            declared["recipes"][item.recipe],
        )
    )
    attack, certificate = training.pop("attack", {}), training.pop("certificate", {})
    if "epochs" in training:
        training["steps"] = training.pop("epochs") * (item.train_size // training["batch_size"])
    if "length" in training:
        training = _lengthened(training, training.pop("length"))
    resolved = {
        "data": {**about, "train_size": item.train_size},
        "model": {"name": item.model, "widen_factor": item.widen_factor, **_shape(item)},
        "training": {**training, "seed": item.seed},
    }
    if item.training == "pgd":
        resolved["attack"] = {**dataset["threat_model"], **attack}
    if item.training == "lp":
        resolved["certificate"] = {**{name: dataset["threat_model"][name] for name in ("eps", "bounds")}, **certificate}
    return resolved


def _lengthened(training: dict, times: float) -> dict:
    """The same training with so many times the steps, its schedule stretched with them."""
    schedule = training["schedule"]
    if isinstance(schedule, dict):
        schedule = {str(round(int(step) * times)): lr for step, lr in schedule.items()}
    return {**training, "steps": round(training["steps"] * times), "schedule": schedule}


def keeps_weights(run: Run) -> bool:
    """Whether the final weights of `run` are kept beside its records: of narrow networks, the first seed, of PGD training, and
    of standard training for the galleries.
    """
    kept = spec()["weights"]
    of = {"pgd": kept["exhibits"], "standard": kept["standard"]}.get(run.training, {})
    return (
        run.seed == 0 and run.widen_factor <= kept["widen_factor"] and not {*exhibits_of(run)}.isdisjoint(of.get(run.scale, []))
    )


def evaluations(run: Run, shown_by: str | None = None) -> list[str]:
    """The evaluations that a run needs: those of its kind of training, and those its exhibits ask for besides.

    `shown_by` an exhibit: those that this one shows, and no other's.
    """
    needed = dict.fromkeys(spec()["needs"][run.training])
    for name in exhibits_of(run) if shown_by is None else [shown_by]:
        asked = _block(name, run.scale).get("evaluations", {})
        needed.update(dict.fromkeys(asked.get(run.training, [])))
    for name in needed:
        one_of("evaluation", name, spec()["evaluations"])
    return list(needed)


def metrics(evaluation: str) -> dict[str, str]:
    """What an evaluation records: from the name that `lib.evaluation` gives a metric to the record's own.

    An attack other than the paper's has a `suffix`, which its two accuracies carry: `robust_accuracy_worst_case`. The clean
    accuracy depends on no attack, so it is not among them; nor is robustness w.r.t. predictions, where an attack is only
    against the label. An evaluation of another kind lists its own `metrics`; an `eps-curve` records robust_accuracy_eps_EPS
    for each eps, `changed-weights` robust_accuracy_weights_CHANGE for each change.
    """
    one_of("evaluation", evaluation, spec()["evaluations"])
    chosen = spec()["evaluations"][evaluation]
    if "metrics" in chosen:
        return {metric: metric for metric in chosen["metrics"]}
    if "changes" in chosen:
        names = (f"robust_accuracy_weights_{change}" for change in chosen["changes"])
        return {name: name for name in names}
    clean, *attacked = "clean_accuracy", "robust_accuracy", "robustness_wrt_predictions"
    if chosen.get("against") == "label":
        attacked = attacked[:1]
    if "suffix" in chosen:
        return {metric: f"{metric}_{chosen['suffix']}" for metric in attacked}
    recorded = (clean, *attacked) if "attack" in chosen else (clean,)
    return {metric: metric for metric in (*recorded, *chosen.get("certificate", []))}


# What a declared evaluation holds for these settings to be made of; all else is passed on to the kind of evaluation.
_RESOLVED = ("attack", "autoattack", "curve", "metrics", "surrogate", "test_size", "train_subset")


def evaluation_settings(run: Run, evaluation: str) -> dict:
    """What is taken of the trained model: `sizes` of the splits and, where it is attacked, the `threat_model`.

    `suffix`: that of the metrics, for an attack other than the paper's. `certificate`: the certified errors that are taken
    with exact bounds. `ramp`: the slope of the ramp put in front of the model, and the `queries` of the Square attack on it.
    `against`: `label` for an attack that is only against the label, on a class-balanced part of the test images. `eps`: the
    budgets of a curve, each with the threat model's step scaled to it. `surrogate`: the settings of the model that the attack
    is crafted on. `changes`: what is done to the network's weights before each attack. `autoattack`: the keyword arguments of
    `attacks.autoattack`, in place of a threat model.
    """
    one_of("evaluation", evaluation, spec()["evaluations"])
    declared = spec()
    chosen = merged(declared["evaluations"][evaluation], declared["scales"][run.scale].get("evaluations", {}).get(evaluation))
    dataset = dataset_settings(run.dataset, run.scale)
    test, train = (chosen.get(name, dataset[name]) for name in ("test_size", "train_subset"))
    sizes = {"test": test, "train": min(train, run.train_size)}
    resolved = {"sizes": sizes, "seed": run.seed}
    if "attack" in chosen:
        threat_model = numbers(merged(dataset["threat_model"], chosen["attack"]))
        if "step_over_eps" in threat_model:
            threat_model["step_size"] = threat_model.pop("step_over_eps") * threat_model["eps"]
        resolved["threat_model"] = threat_model
    resolved |= {name: value for name, value in chosen.items() if name not in _RESOLVED}
    if "against" in chosen:
        resolved["sizes"] = {"test": dataset["curve_size" if chosen.get("curve") else "suite_size"]}
    if chosen.get("curve"):
        resolved["eps"] = dataset["eps_curve"]
    if other := surrogate(run, evaluation):
        resolved["surrogate"] = settings(other)
    if "autoattack" in chosen:
        resolved["autoattack"] = {"eps": dataset["threat_model"]["eps"], **chosen["autoattack"]}
    return resolved


def surrogate(run: Run, evaluation: str) -> Run | None:
    """The run on whose model the evaluation's attack is crafted, where that is another: the same but for the training."""
    training = spec()["evaluations"][evaluation].get("surrogate")
    return replace(run, training=training) if training else None


def record_settings(item: Item, evaluation: str) -> dict:
    """The settings that a record carries, by which it is told from a stale one."""
    if isinstance(item, Measurement) or evaluation == "training":
        return settings(item)
    return {**settings(item), "evaluation": evaluation_settings(item, evaluation)}


def records(item: Item, shown_by: str | None = None) -> list[str]:
    """The names of the records that `item` leaves behind once it is complete, or of those that one exhibit shows."""
    return ["measured"] if isinstance(item, Measurement) else ["training", *evaluations(item, shown_by)]
