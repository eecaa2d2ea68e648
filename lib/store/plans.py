"""Resolves an item of the grid to its plan, once: every setting that decides its numbers, and the records that it leaves.

plan = plans.of(run)
plan.settings["training"]["steps"]
plan.evaluation("pgd").settings["threat_model"]
"""

from dataclasses import dataclass, replace
from functools import cache

import torch

from lib import data, transforms
from lib.store import grid
from lib.store.items import Item, Measurement, Run, dataset_settings, merged, numbers, one_of, spaces, spec

# Raised by hand when a change of code can move a number: older records then count as stale. By network, so that a change to
# one leaves the others' records alone; a measurement, in which no network takes part, goes by "measured".
NUMERICS = {"measured": 2, "lenet5": 2, "small_convnet": 2, "wide_resnet28": 4}


class Settings(dict):
    """Plain JSON values that everyone who asks for them shares. Setting or removing a name raises TypeError: copy them first,
    with `{**settings}`. A list in them must not be changed either; nothing checks that.
    """

    def _refuse(self, *_, **__):
        raise TypeError("settings of a plan cannot be changed; copy them first: {**settings}")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self):
        return Settings, (dict(self),)

    @staticmethod
    def of(values: dict) -> "Settings":
        """`values`, with each mapping in it, as settings."""
        return Settings({name: Settings.of(value) if isinstance(value, dict) else value for name, value in values.items()})


@dataclass(frozen=True)
class EvaluationPlan:
    """An evaluation of one run's trained model.

    `metrics`: the names of what is recorded, as the function `metrics` gives them.
    `surrogate`: the run on whose model the attack is crafted, or None. It differs only in its training and the length of it.
    `settings`: the `sizes` of the splits; where the model is attacked by PGD, the `threat_model`; and, where they apply:
    - `suffix`: that of the metrics, for an attack other than the paper's.
    - `certificate`: the certified errors that are taken with exact bounds.
    - `ramp`: the slope of the ramp put in front of the model, and the `queries` of the Square attack on it.
    - `against`: `label` for an attack that is only against the label, on a class-balanced part of the test images.
    - `eps`: the budgets of a curve, each with the threat model's step scaled to it.
    - `surrogate`: the settings of the model that the attack is crafted on.
    - `changes`: what is done to the network's weights before each attack.
    - `autoattack`, `square`: the keyword arguments of the function of `attacks` of that name, in place of a threat model.
    """

    settings: Settings
    metrics: dict[str, str]
    surrogate: Run | None = None


@dataclass(frozen=True)
class Plan:
    """What an item asks for, resolved.

    `settings` of a run: `data` (source and sizes), `model`, `training` (the keyword arguments of `training.train`) and, for PGD
    training, `attack` (the threat model it trains against), for LP training `certificate` (what its bounds are for). Those of a
    measurement: `data`, `quantity`, and the quantity's own.
    `numerics`: the present revision of the code that computes its numbers. `network`: the keyword arguments of `models.build`;
    empty for a measurement. `keeps_weights`: whether the final weights are kept beside the records. They are for the first seed
    of narrow networks: of PGD training, and of standard training for the galleries.
    """

    item: Item
    numerics: int
    settings: Settings
    network: Settings
    keeps_weights: bool

    def evaluations(self, shown_by: str | None = None) -> list[str]:
        """The evaluations that a run needs: those of its kind of training, and those its exhibits ask for besides.

        `shown_by` an exhibit: those that this one shows, and no other's. ValueError for one that is not declared.
        """
        return list(_needed(self.item, shown_by))

    def records(self, shown_by: str | None = None) -> list[str]:
        """The names of the records that the item leaves behind once it is complete, or of those that one exhibit shows."""
        return ["measured"] if isinstance(self.item, Measurement) else ["training", *self.evaluations(shown_by)]

    def evaluation(self, name: str) -> EvaluationPlan:
        """An evaluation of the run, needed or not. ValueError, listing what there is, for one that is not declared."""
        return _evaluation(self.item, name)

    def settings_of(self, record: str) -> Settings:
        """The settings that a record carries. A record with other settings is stale."""
        evaluated = record not in ("training", "measured")
        return Settings({**self.settings, "evaluation": self.evaluation(record).settings}) if evaluated else self.settings


@cache
def of(item: Item) -> Plan:
    """The plan of `item`. ValueError where its data set has no settings at its scale, or images too small for its transform."""
    if isinstance(item, Measurement):
        settings = Settings.of(_of_measurement(item))
        if item.dataset not in spaces():
            _check_size(item.transform, settings["data"]["source"])
        return Plan(item, NUMERICS["measured"], settings, Settings(), keeps_weights=False)
    settings = Settings.of(_of_run(item))
    _check_size(item.transform, settings["data"]["source"])
    known = data.DATASETS[settings["data"]["source"]]
    shape = {"in_channels": known.shape[0], "image_size": known.shape[1], "classes": known.classes}
    return Plan(item, NUMERICS[item.model], settings, Settings({**settings["model"], **shape}), _keeps_weights(item))


@cache
def _check_size(transform: str, source: str) -> None:
    """ValueError where the transform, or the one whose distance it takes, is not for images of this size: a large filter."""
    for name in filter(None, (transform, transforms.rescale_target(transform))):
        try:
            transforms.parse(name, factor=1.0)(torch.zeros(0, *data.DATASETS[source].shape))
        except ValueError as error:
            raise ValueError(f"transform {transform!r} of {source}: {error}") from None


def _of_measurement(item: Measurement) -> dict:
    declared = spec()
    dataset = {"source": item.dataset} if item.dataset in spaces() else dataset_settings(item.dataset, item.scale)
    about = {"source": dataset["source"], "transform": item.transform}
    if item.quantity in declared["quantities"]:
        overrides = declared["scales"][item.scale].get("quantities", {}).get(item.quantity, {})
        chosen = merged(declared["quantities"][item.quantity][item.dataset], overrides.get(item.dataset))
        return {"data": about, "quantity": item.quantity, **numbers(chosen)}
    about["test_size"] = dataset["test_size"]
    return {"data": about, "quantity": item.quantity, "eps": dataset["threat_model"]["eps"]}


def _of_run(run: Run) -> dict:
    declared, dataset = spec(), dataset_settings(run.dataset, run.scale)
    at_scale = declared["scales"][run.scale].get("models", {}).get(run.model)
    training = numbers(merged(declared["models"][run.model], at_scale, declared["recipes"][run.recipe]))
    attack, certificate = training.pop("attack", {}), training.pop("certificate", {})
    if "epochs" in training:
        training["steps"] = training.pop("epochs") * (run.train_size // training["batch_size"])
    if "length" in training:
        training = _lengthened(training, training.pop("length"))
    resolved = {
        "data": {"source": dataset["source"], "transform": run.transform, "train_size": run.train_size},
        "model": {"name": run.model, "widen_factor": run.widen_factor},
        "training": {**training, "seed": run.seed},
    }
    if run.model == "small_convnet":  # the only network that is used for more than one shape
        channels, size, _ = data.DATASETS[dataset["source"]].shape
        resolved["model"] |= {"in_channels": channels, "image_size": size}
    if run.training == "pgd":
        resolved["attack"] = {**dataset["threat_model"], **attack}
    if run.training == "lp":
        resolved["certificate"] = {**{name: dataset["threat_model"][name] for name in ("eps", "bounds")}, **certificate}
    return resolved


def _lengthened(training: dict, times: float) -> dict:
    """The same training with so many times the steps, its schedule stretched with them."""
    schedule = training["schedule"]
    if isinstance(schedule, dict):
        schedule = {str(round(int(step) * times)): lr for step, lr in schedule.items()}
    return {**training, "steps": round(training["steps"] * times), "schedule": schedule}


def _keeps_weights(run: Run) -> bool:
    kept = spec()["weights"]
    keepers = {"pgd": kept["exhibits"], "standard": kept["standard"]}.get(run.training, {})
    exhibits = grid.exhibits_of(run) if run.seed == 0 and run.widen_factor <= kept["widen_factor"] else []
    return not {*exhibits}.isdisjoint(keepers.get(run.scale, []))


@cache
def _needed(run: Run, shown_by: str | None) -> tuple[str, ...]:
    needed = dict.fromkeys(spec()["needs"][run.training])
    for exhibit in grid.exhibits_of(run) if shown_by is None else [shown_by]:
        needed.update(dict.fromkeys(grid.block(exhibit, run.scale).get("evaluations", {}).get(run.training, [])))
    for name in needed:
        one_of("evaluation", name, spec()["evaluations"])
    return tuple(needed)


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


# The keys of a declared evaluation that make these settings; its other keys go to the kind of evaluation.
_RESOLVED = ("attack", "autoattack", "curve", "metrics", "square", "surrogate", "test_size", "train_subset")


@cache
def _evaluation(run: Run, name: str) -> EvaluationPlan:
    one_of("evaluation", name, spec()["evaluations"])
    declared = spec()
    chosen = merged(declared["evaluations"][name], declared["scales"][run.scale].get("evaluations", {}).get(name))
    dataset = dataset_settings(run.dataset, run.scale)
    test, train = (chosen.get(part, dataset[part]) for part in ("test_size", "train_subset"))
    resolved = {"sizes": {"test": test, "train": min(train, run.train_size)}, "seed": run.seed}
    if "attack" in chosen:
        threat_model = numbers(merged(dataset["threat_model"], chosen["attack"]))
        if "step_over_eps" in threat_model:
            threat_model["step_size"] = threat_model.pop("step_over_eps") * threat_model["eps"]
        resolved["threat_model"] = threat_model
    resolved |= {part: value for part, value in chosen.items() if part not in _RESOLVED}
    if "against" in chosen:
        resolved["sizes"] = {"test": dataset["curve_size" if chosen.get("curve") else "suite_size"]}
    if chosen.get("curve"):
        resolved["eps"] = dataset["eps_curve"]
    surrogate = _surrogate(run, chosen["surrogate"]) if "surrogate" in chosen else None
    if surrogate:
        resolved["surrogate"] = of(surrogate).settings
    for attack in ("autoattack", "square"):
        if attack in chosen:
            resolved[attack] = {"eps": dataset["threat_model"]["eps"], **chosen[attack]}
    return EvaluationPlan(Settings.of(resolved), metrics(name), surrogate)


def _surrogate(run: Run, training: str) -> Run:
    """The run of another training that a table shows beside `run`: both of the usual length, or both of the same other one."""
    usual = grid.usual_recipes(run.scale)
    if run.recipe != usual.get((run.dataset, run.training)):
        return replace(run, training=training)
    return replace(run, training=training, recipe=usual[run.dataset, training])
