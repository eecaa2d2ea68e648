"""The grid: what is expanded, the paper's own settings, and names that tell runs apart."""

import copy
import json
import operator
import pickle
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import pytest
import stored

from lib import attacks, data, models, theory
from lib.store import grid, plans, results
from lib.store.grid import Measurement, Run

MNIST = Run("mnist", "smooth-3", "lenet5", 1.0, "pgd", 60000, "default", 0, "paper")
CIFAR10 = Run("cifar10", "saturate-8", "wide_resnet28", 4.0, "pgd", 50000, "default", 0, "paper")


def copied(item) -> dict:
    """The settings of an item, to be changed."""
    return json.loads(json.dumps(plans.of(item).settings))


@pytest.fixture(params=grid.SCALES)
def items(request) -> list[grid.Item]:
    """The whole grid at a scale."""
    return grid.all_runs(request.param)


@pytest.mark.parametrize(
    ("exhibit", "paper", "laptop", "smoke"),
    [
        ("table-2", 9 * 2, 9 * 2 * 3, 4 * 2),
        ("footprints", 6 * 2, 6 * 2, 2 * 2),
        ("table-3", 14 * 2, 7 * 2, 3 * 2),
        ("worst-case-mnist", 3, 3, 1),
        ("worst-case-cifar10", 3, 3, 1),
        ("precision", 2 * 2 * 5, 2 * 2 * 5, 2 * 2),
        ("section-2.2", 2, 2, 2),
        ("exact-certificate", 2, 2, 2),
        ("figure-3a", 5 * 2, 5 * 2 * 2, 3 * 2),
        ("figure-3b", 2 * 2, 2 * 2, 2 * 2),
        ("figure-3b-pixels", 2, 2, 2),
        ("figure-1a", 5, 5, 5),
        ("figure-1b", 6, 6, 6),
        ("footprint-volumes", 6, 6, 6),
        ("footprint-distances", 9, 9, 9),
        ("example-1", 1, 1, 1),
        ("theorem-2.1", 2, 2, 2),
        ("distances-uniform", 2, 2, 2),
        ("distances-images", 2 * 2, 2 * 2, 2 * 2),
        ("table-1", 9, 9 * 3, 3),
        ("figure-4-capacity-mnist", 4 * 6 * 2, 4 * 3 * 2, 2 * 2),
        ("figure-4-capacity-cifar10", 4 * 3 * 2, 4 * 2 * 2, 2),
        ("published-settings", 3, 3, 3),
        ("figure-4-samples-mnist", 4 * 5 * 2, 2 * 3 * 2, 2 * 2),
        ("figure-4-samples-cifar10", 4 * 5 * 2, 2 * 3 * 2, 1),
    ],
)
def test_an_exhibit_expands_to_all_combinations(exhibit, paper, laptop, smoke):
    counts = {"paper": paper, "laptop": laptop, "smoke": smoke}
    for scale, count in counts.items():
        listed = grid.runs(exhibit, scale)
        assert len(listed) == count
        assert len(set(listed)) == count
        assert {item.scale for item in listed} == {scale}


@pytest.mark.parametrize("block", [{"transfrom": ["edges"]}, {"stretch": {"seeds": [1]}}])
def test_a_misspelt_axis_of_an_exhibit_is_named(monkeypatch, block):
    for name, value in block.items():
        stored.declare(monkeypatch, grid.spec()["exhibits"]["table-2"], name, value)
    with pytest.raises(
        ValueError, match="unknown axis of table-2 '(transfrom|seeds)'; allowed: quantity, dataset, transform, model"
    ):
        grid.runs("table-2", "paper")


def test_a_misspelt_evaluation_of_an_exhibit_is_named_before_anything_is_trained(monkeypatch):
    stored.declare(monkeypatch, grid.spec()["exhibits"]["table-2"], "evaluations", {"pgd": ["pgd-wrost-case"]})
    with pytest.raises(ValueError, match="unknown evaluation 'pgd-wrost-case'; allowed: clean, pgd"):
        plans.of(MNIST).records("table-2")


@pytest.mark.parametrize("name", grid.exhibits())
def test_an_exhibit_says_what_it_is_and_where_it_belongs(name):
    """The pages of the records show both."""
    assert {"title", "where"} <= grid.exhibit(name).keys()


def test_table_2_is_the_papers():
    listed = grid.runs("table-2", "paper")
    transforms = ["binarize", "original", *(f"smooth-{size}" for size in range(2, 9))]
    assert [(run.transform, run.training) for run in listed] == list(product(transforms, ("standard", "pgd")))
    assert {(run.dataset, run.model, run.widen_factor, run.train_size, run.recipe, run.seed) for run in listed} == {
        ("mnist", "lenet5", 1, 60000, "default", 0)
    }


def test_table_3_is_the_papers():
    listed = grid.runs("table-3", "paper")
    levels = ("1", "1.5", "1.75", "2.25", "2.5", "3", "4", "8", "16", "64", "128", "256", "inf")
    assert {run.transform for run in listed} == {"original", *(f"saturate-{level}" for level in levels)}
    assert {(run.dataset, run.model, run.widen_factor, run.train_size) for run in listed} == {
        ("cifar10", "wide_resnet28", 4, 50000)
    }


@pytest.mark.parametrize(
    ("exhibit", "other", "paper", "scales"),
    [("table-4", "table-2", 9 * 6 * 2, grid.SCALES), ("table-5", "table-3", 14 * 3 * 2, ("paper", "smoke"))],
)
def test_an_exhibit_shows_the_runs_of_another_as_well(exhibit, other, paper, scales):
    for scale in scales:
        listed = grid.runs(exhibit, scale)
        assert len({*listed}) == len(listed)
        assert {*grid.runs(other, scale)} <= {*listed}
        first = grid.runs(exhibit, scale, seeds=1)
        assert {run.seed for run in first} == {0}
        assert {*grid.runs(other, scale, seeds=1)} <= {*first}
    assert len(grid.runs(exhibit, "paper")) == paper


def test_networks_of_different_widths_are_trained_alike():
    """At scale laptop Table 5 leaves out Table 3's runs, which are longer."""
    assert {run.recipe for run in grid.runs("table-5", "laptop")} == {"third"}
    assert {(run.training, run.recipe) for run in grid.runs("table-3", "laptop")} == {
        ("standard", "nine-times"),
        ("pgd", "thrice"),
    }


def test_a_recipe_may_be_of_some_trainings_alone(monkeypatch):
    block = grid.spec()["exhibits"]["tuning-mnist"]["scales"]
    recipes = ["default", {"standard": "thrice"}, {"standard": "twice", "pgd": "third"}]
    stored.declare(monkeypatch, block, "smoke", {"widen_factor": 0.125, "training": ["standard", "pgd"], "recipe": recipes})
    listed = {
        training: [run.recipe for run in grid.runs("tuning-mnist", "smoke") if run.training == training]
        for training in ("standard", "pgd")
    }
    assert listed == {"standard": ["default", "thrice", "twice"], "pgd": ["default", "third"]}
    recipes.append({"lp": "default"})
    with pytest.raises(ValueError, match="^unknown training of tuning-mnist 'lp'; allowed: standard, pgd$"):
        grid.runs("tuning-mnist", "smoke")


def test_the_usual_recipes_are_those_of_tables_2_and_3_and_figure_3b():
    usual = grid.usual_recipes("laptop")
    assert usual["cifar10", "standard"] == usual["cifar10-jpeg", "standard"] == "nine-times"
    assert usual["cifar10", "pgd"] == usual["cifar10-jpeg", "pgd"] == "thrice"
    assert {usual[dataset, training] for dataset in ("mnist", "fashion_mnist") for training in ("standard", "pgd")} == {
        "default"
    }
    assert set(grid.usual_recipes("paper").values()) == {"default"}


def test_table_1_aims_at_the_smoothed_sets():
    listed = [run.transform for run in grid.runs("table-1", "paper")]
    assert listed == [f"{step}smooth-{size}" for size in (3, 4, 5) for step in ("", "rescale-to-", "binarize+rescale-to-")]


@pytest.mark.parametrize("exhibit", ["figure-4-samples-mnist", "figure-4-samples-cifar10"])
def test_samples_are_section_5_3s(exhibit):
    listed = grid.runs(exhibit, "paper")
    whole = {"mnist": 60000, "cifar10": 50000}[listed[0].dataset]
    assert {run.train_size for run in listed} == {1000, 3000, 9000, 27000, whole}
    assert {run.recipe for run in listed} == {"weight-decay-.002"}
    fewer = grid.runs(exhibit, "laptop")
    assert len({run.train_size for run in fewer}) >= 3
    assert {plans.of(run).settings["training"]["weight_decay"] for run in fewer} == {0.002}


@pytest.mark.parametrize("exhibit", grid.exhibits())
def test_lower_scales_only_thin_out(exhibit):
    """No data set, transform, model or training that the highest scale has not, which is the paper's but for a few."""
    highest, *lower = (grid.runs(exhibit, scale) for scale in grid.SCALES if scale in grid.exhibit(exhibit)["scales"])
    assert lower
    for fewer in lower:
        for field in ("dataset", "transform", "model", "training", "quantity"):
            assert {getattr(item, field, None) for item in fewer} <= {getattr(item, field, None) for item in highest}


def test_a_stretch_is_computed_by_name_alone():
    longest = [run for run in grid.runs("under-training", "laptop") if run.recipe == "four-times"]
    stretch = {*grid.runs("published-settings", "laptop"), *longest}
    assert {*grid.all_runs("laptop", stretches=True)} - {*grid.all_runs("laptop")} == stretch
    assert grid.runs("published-settings", "laptop", stretches=False) == []
    assert {run.recipe for run in grid.runs("under-training", "laptop", stretches=False)} == {"default", "twice"}
    for scale in ("paper", "smoke"):
        assert grid.all_runs(scale, stretches=True) == grid.all_runs(scale)
    with pytest.raises(ValueError, match="under-training is not computed at scale 'paper'; allowed: laptop, smoke"):
        grid.runs("under-training", "paper", stretches=False)


def test_a_stretch_that_another_exhibit_asks_for_is_computed_like_any_run(monkeypatch):
    name = "figure-4-capacity-mnist"
    stored.declare(monkeypatch, grid.spec()["exhibits"][name]["scales"]["laptop"], "stretch", {"training": ["pgd"]})
    left_out = {*grid.runs(name, "laptop")} - {*grid.runs(name, "laptop", stretches=False)}
    assert {run.training for run in left_out} == {"pgd"}
    asked_for = {*grid.runs("table-4", "laptop")} & left_out
    assert asked_for
    assert asked_for <= {*grid.all_runs("laptop")}


def test_all_runs_names_each_item_once():
    for scale in grid.SCALES:
        listed = grid.all_runs(scale, stretches=True)
        assert len({item.key for item in listed}) == len(listed)
        names = [name for name in grid.exhibits() if scale in grid.exhibit(name)["scales"]]
        assert {item.key for item in listed} == {item.key for name in names for item in grid.runs(name, scale)}


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_key_reads_as_in_the_design():
    assert MNIST.key == "mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed0"
    assert replace(MNIST, widen_factor=0.25, seed=7).key == "mnist/smooth-3/lenet5-w0.25/pgd/n60000/default/seed7"
    assert str(MNIST) == f"paper: {MNIST.key}"
    volume = Measurement("log2_perturbable_volume", "mnist", "smooth-3", "paper")
    assert volume.key == "measured/log2_perturbable_volume/mnist/smooth-3"


def test_a_key_names_its_item(items):
    for item in items:
        parsed = grid.parse(item.key, item.scale)
        assert parsed == item
        # The digest of these names the checkpoint's folder: 1 and 1.0 must be one width there, too.
        assert json.dumps(plans.of(parsed).settings) == json.dumps(plans.of(item).settings), item


def test_a_width_that_is_no_short_decimal_is_told_apart():
    third = replace(MNIST, widen_factor=1 / 3)
    assert Run.parse(third.key, "paper") == third
    assert third.key != replace(MNIST, widen_factor=0.333333).key


def test_no_two_items_have_the_same_settings(items):
    settings = {json.dumps(plans.of(item).settings, sort_keys=True) for item in items}
    assert len(settings) == len(items) == len({item.key for item in items})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "fashion_mnist"),
        ("transform", "smooth-square-3"),
        ("model", "wide_resnet28"),
        ("widen_factor", 0.125),
        ("training", "standard"),
        ("train_size", 1000),
        ("recipe", "weight-decay-.002"),
        ("seed", 1),
    ],
)
def test_every_field_is_in_the_key_and_in_the_settings(field, value):
    other = replace(MNIST, **{field: value})
    assert other.key != MNIST.key
    assert plans.of(other).settings_of("training") != plans.of(MNIST).settings_of("training")
    assert Run.parse(other.key, "paper") == other


def test_a_run_is_frozen():
    with pytest.raises(FrozenInstanceError):
        MNIST.seed = 1


# --- settings ---------------------------------------------------------------------------------------------------------


def test_mnist_settings_are_appendix_b1s():
    settings = plans.of(MNIST).settings
    assert settings["data"] == {"source": "mnist", "transform": "smooth-3", "train_size": 60000}
    assert settings["model"] == {"name": "lenet5", "widen_factor": 1}
    assert settings["training"] == {
        "optimizer": "adam",
        "lr": 0.0001,
        "schedule": "constant",
        "weight_decay": 0,
        "steps": 100_000,
        "batch_size": 50,
        "augment": "none",
        "seed": 0,
    }
    attack = settings["attack"]
    assert (attack["eps"], attack["step_size"], attack["num_steps"]) == (0.3, 0.01, 40)
    assert (attack["norm"], attack["random_start"], list(attack["bounds"])) == ("linf", True, [0, 1])
    assert (attack["warmup"], attack["precision"]) == (0, "float32")


def test_cifar10_settings_are_appendix_b1s():
    settings = plans.of(CIFAR10).settings
    assert settings["training"] == {
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.1,
        "schedule": {"40000": 0.01, "60000": 0.001},
        "weight_decay": 0.0002,
        "steps": 80_000,
        "batch_size": 128,
        "augment": "crop-flip",
        "seed": 0,
    }
    attack = settings["attack"]
    assert (attack["eps"], attack["step_size"], attack["num_steps"]) == (8 / 255, 2 / 255, 10)
    assert (attack["warmup"], attack["precision"]) == (0, "float32")


@pytest.mark.parametrize("run", [MNIST, CIFAR10], ids=str)
def test_standard_training_differs_by_the_attack_alone(run):
    robust, standard = {**plans.of(run).settings}, plans.of(replace(run, training="standard")).settings
    del robust["attack"]
    assert standard == robust


class Threat(NamedTuple):
    run: Run
    eps: float
    step_size: float
    num_steps: int


@pytest.mark.parametrize("scale", grid.SCALES)
@pytest.mark.parametrize(
    "case", [Threat(MNIST, 0.3, 0.01, 40), Threat(CIFAR10, 8 / 255, 2 / 255, 10)], ids=["mnist", "cifar10"]
)
def test_every_scale_evaluates_with_the_papers_attack(case, scale):
    run = replace(case.run, scale=scale, train_size=1000)
    threat_model = plans.of(run).evaluation("pgd").settings["threat_model"]
    attack = (threat_model["eps"], threat_model["step_size"], threat_model["num_steps"])
    assert attack == (case.eps, case.step_size, case.num_steps)
    assert plans.of(run).settings["attack"]["eps"] == case.eps


def test_sample_complexity_has_the_papers_weight_decay():
    settings = plans.of(replace(MNIST, recipe="weight-decay-.002", train_size=1000)).settings
    assert settings["training"]["weight_decay"] == 0.002
    assert settings["training"]["steps"] == 100_000


@pytest.mark.parametrize("scale", grid.SCALES)
def test_the_precision_exhibit_compares_runs_that_differ_by_it_alone(scale):
    listed = grid.runs("precision", scale)
    assert len({run.seed for run in listed}) > 1
    for run in listed:
        if not run.recipe.endswith("bfloat16"):
            settings = copied(run)
            (other,) = (
                copied(each) for each in listed if each.recipe.endswith("bfloat16") and replace(each, recipe=run.recipe) == run
            )
            assert (settings["attack"].pop("precision"), other["attack"].pop("precision")) == ("float32", "bfloat16")
            assert settings == other
            assert plans.of(run).evaluation("pgd").settings["threat_model"].get("precision") is None  # float32


@pytest.mark.parametrize("scale", grid.SCALES)
def test_attacks_of_training_are_in_float32_by_default(scale):
    listed = [run for run in grid.all_runs(scale) if isinstance(run, Run) and run.training == "pgd"]
    low = {run.recipe for run in listed if plans.of(run).settings["attack"]["precision"] != "float32"}
    assert low == {run.recipe for run in listed if run.recipe.endswith("bfloat16")}
    assert "default" not in low


@pytest.mark.parametrize(
    ("run", "sizes"),
    [
        (MNIST, {"test": 10000, "train": 10000}),
        (replace(MNIST, train_size=1000), {"test": 10000, "train": 1000}),
        (replace(MNIST, scale="laptop"), {"test": 10000, "train": 2000}),
        (replace(MNIST, scale="smoke", train_size=4000), {"test": 200, "train": 100}),
    ],
    ids=str,
)
def test_metrics_are_taken_on_the_test_set_and_a_part_of_the_training_set(run, sizes):
    assert plans.of(run).evaluation("pgd").settings["sizes"] == sizes


@pytest.mark.parametrize("item", [MNIST, CIFAR10, grid.runs("figure-1a", "paper")[0]], ids=str)
def test_an_item_is_resolved_once_and_its_settings_cannot_be_changed(item):
    plan = plans.of(item)
    assert plans.of(replace(item)) is plan
    for settings in (plan.settings, plan.settings["data"]):
        for change in (
            lambda each: each.update(transform="edges"),
            lambda each: each.setdefault("transform", "edges"),
            lambda each: each.pop("transform"),
            lambda each: each.popitem(),
            lambda each: each.clear(),
            lambda each: each.__setitem__("transform", "edges"),
            lambda each: each.__delitem__("transform"),
            lambda each: operator.ior(each, {"transform": "edges"}),
        ):
            with pytest.raises(TypeError, match="cannot be changed; copy them first"):
                change(settings)
        assert {**settings} == settings == pickle.loads(pickle.dumps(settings)) == copy.deepcopy(settings)
    with pytest.raises(FrozenInstanceError):
        plan.numerics = 99


def test_settings_are_plain_json_and_name_what_exists(items):
    for item in items:
        settings = plans.of(item).settings
        for name in plans.of(item).records():
            resolved = plans.of(item).settings_of(name)
            assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
        assert settings["data"]["source"] in (*data.DATASETS, *grid.spaces())
        if isinstance(item, Run):
            assert settings["model"]["name"] in models.BUILDERS
            assert settings["training"]["batch_size"] <= item.train_size


def test_smoke_needs_no_real_data():
    sources = {plans.of(item).settings["data"]["source"] for item in grid.all_runs("smoke")}
    assert sources <= {"mnist-5000", "colour-patches", "grey-patches", *grid.spaces()}


def test_the_spaces_are_those_of_the_theory_and_those_of_classes():
    assert grid.spaces() == [*theory.SPACES, "spheres", "blobs"]


def test_settings_of_a_simulation_hold_all_that_decides_its_numbers():
    cube = Measurement("half_space_simulation", "cube", "original", "paper")
    settings = plans.of(cube).settings
    assert settings["data"] == {"source": "cube", "transform": "original"}
    assert settings.keys() == {"data", "quantity", "dimensions", "directions", "masses", "eps", "samples", "seed"}
    laptop = plans.of(replace(cube, scale="laptop")).settings
    assert laptop["samples"] < settings["samples"]
    assert {**laptop, "samples": 0} == {**settings, "samples": 0}
    assert plans.of(replace(cube, dataset="ball")).settings != settings
    eps = plans.of(Measurement("example_1_simulation", "cube", "original", "smoke")).settings["eps"]
    assert eps == [8 / 255, 0.1, 0.3]


def test_smoke_trains_fewer_and_narrower_networks_between_spheres():
    paper, smoke = (
        plans.of(Measurement("sphere_separation", "spheres", "original", scale)).settings for scale in ("paper", "smoke")
    )
    assert paper["widths"].keys() == smoke["widths"].keys() == {"2", "8"}
    assert all(max(smoke["widths"][d]) < max(paper["widths"][d]) for d in paper["widths"])
    assert smoke["steps"] < paper["steps"]
    assert smoke["eps"] == paper["eps"]


def test_distances_of_images_are_settings_of_their_own():
    images = Measurement("pairwise_distances", "mnist", "binarize", "smoke")
    assert plans.of(images).settings == {
        "data": {"source": "mnist-5000", "transform": "binarize"}, "quantity": "pairwise_distances", "points": 200, "bins": 50,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("quantity", "dataset", "transform", "message"),
    [
        ("example_1_simulation", "mnist", "original", "example_1_simulation is not measured of 'mnist'; allowed: cube"),
        ("example_1_simulation", "ball", "original", "example_1_simulation is not measured of 'ball'; allowed: cube"),
        ("pairwise_distances", "fashion_mnist", "original", "is not measured of 'fashion_mnist'; allowed: cube, ball, mnist"),
        ("pixel_histogram", "cube", "original", "'pixel_histogram' is not measured of 'cube', which has no images"),
        ("linf_distance", "fashion_mnist", "original", "is not measured of 'fashion_mnist'; allowed: mnist, cifar10"),
        ("pairwise_distances", "cube", "binarize", "cube is a distribution of points, which is not transformed"),
        ("sphere_separation", "spheres", "edges", "spheres is a distribution of points, .* allowed: original; given 'edges'"),
        ("pairwise_distances", "torus", "original", "unknown dataset 'torus'; allowed: mnist, .*, cube, ball"),
    ],
)
def test_a_measurement_refuses(quantity, dataset, transform, message):
    with pytest.raises(ValueError, match=message):
        Measurement(quantity, dataset, transform, "smoke")


@pytest.mark.parametrize(
    ("dataset", "transform", "message"),
    [
        ("mnist", "smooth-56", "transform 'smooth-56' of mnist: a filter of size 56 is too large for images of 28×28 pixels"),
        ("cifar10", "smooth-square-64", "of cifar10: a filter of size 64 is too large for images of 32×32 pixels"),
        ("mnist", "binarize+rescale-to-smooth-56", ".binarize.rescale-to-smooth-56. of mnist: .* too large for images"),
        ("mnist", "edges+smooth-56", "transform 'edges.smooth-56' of mnist: a filter of size 56 is too large"),
    ],
)
def test_a_filter_larger_than_the_images_is_refused_before_anything_is_computed(dataset, transform, message):
    model = "lenet5" if dataset == "mnist" else "wide_resnet28"
    measurement = Measurement("inter_class_distance", dataset, transform, "paper")
    for item in (measurement, replace(MNIST, dataset=dataset, model=model, transform=transform, train_size=50000)):
        with pytest.raises(ValueError, match=message):
            plans.of(item)
    fits = transform.replace("56", "55").replace("64", "63")
    assert plans.of(replace(measurement, transform=fits)).settings["data"]["transform"] == fits


def test_a_space_is_no_data_set_to_train_on():
    with pytest.raises(ValueError, match="unknown dataset 'cube'; allowed: mnist, fashion_mnist, cifar10, cifar10-jpeg$"):
        replace(MNIST, dataset="cube")


def test_records_of_a_run():
    alone = replace(MNIST, seed=99)  # no exhibit asks for anything of it
    assert plans.of(alone).records() == ["training", "pgd"]
    assert plans.of(replace(alone, training="standard")).records() == ["training", "clean"]
    assert plans.of(MNIST).records("table-2") == ["training", "pgd"]
    assert plans.of(MNIST).records("table-7-mnist") == ["training", "pgd", "pgd-unboxed"]
    assert plans.of(Measurement("inter_class_distance", "mnist", "original", "paper")).records() == ["measured"]
    assert "evaluation" not in plans.of(MNIST).settings_of("training")
    assert plans.of(MNIST).settings_of("pgd")["evaluation"] == plans.of(MNIST).evaluation("pgd").settings


def test_an_exhibit_shows_its_own_evaluations_only():
    smooth = replace(MNIST, transform="smooth-5")
    assert {"table-2", "footprints", "worst-case-mnist", "precision"} <= {*grid.exhibits_of(smooth)}
    assert {"training", "pgd", "pgd-worst-case", "pgd-unboxed"} <= {*plans.of(smooth).records()}
    assert plans.of(smooth).records("table-2") == ["training", "pgd"]
    assert plans.of(smooth).records("worst-case-mnist") == ["training", "pgd", "pgd-worst-case"]
    assert plans.of(replace(smooth, training="standard")).records() == ["training", "clean"]


def _trained_for(exhibit):
    """The exhibit whose networks are attacked: Table 2 or 3."""
    return "table-2" if exhibit.endswith("mnist") else "table-3"


@pytest.mark.parametrize("scale", grid.SCALES)
@pytest.mark.parametrize("exhibit", ["worst-case-mnist", "worst-case-cifar10"])
def test_the_worst_case_needs_no_run_of_its_own(exhibit, scale):
    assert set(grid.runs(exhibit, scale)) < set(grid.runs(_trained_for(exhibit), scale))


def test_only_the_papers_attack_has_the_papers_names():
    """What is recorded under a plain name was attacked by the paper's attack; every other one has names of its own."""
    plain = {"clean_accuracy", "robust_accuracy", "robustness_wrt_predictions"}
    spec = grid.spec()["evaluations"]
    recorded = {name: set(plans.metrics(name).values()) for name in spec}
    assert recorded.pop("clean") == {"clean_accuracy"}
    for name in ("pgd", "certified"):  # the second takes exact certificates of the same images besides
        assert spec[name]["attack"] == {}
        assert recorded.pop(name) & plain == plain
    named = [metric for metrics in recorded.values() for metric in metrics]
    assert len(named) == len(set(named) - plain) > 0
    for name, metrics in recorded.items():
        if "suffix" in spec[name]:
            resolved = plans.of(MNIST).evaluation(name).settings
            suffixed = {f"{metric}_{resolved['suffix']}" for metric in ("robust_accuracy", "robustness_wrt_predictions")}
            assert metrics == suffixed if "against" not in resolved else metrics < suffixed
    assert "suffix" not in plans.of(MNIST).evaluation("pgd").settings


def test_metrics_of_table_7_are_named_as_the_papers():
    published = set(results.published("table-7")["metric"])
    assert published == {"robust_accuracy", plans.metrics("pgd-unboxed")["robust_accuracy"]}


@pytest.mark.parametrize("run", [MNIST, CIFAR10], ids=str)
def test_attacks_other_than_the_papers(run):
    paper = plans.of(run).evaluation("pgd").settings["threat_model"]
    assert plans.of(run).evaluation("pgd-unboxed").settings["threat_model"] == {**paper, "bounds": None}
    stronger = attacks.ThreatModel(**plans.of(run).evaluation("pgd-worst-case").settings["threat_model"])
    assert stronger.early_stop
    assert stronger.restarts > 1
    assert stronger.num_steps > paper["num_steps"]
    assert (stronger.eps, stronger.step_size) == (paper["eps"], paper["step_size"])
    assert stronger.num_steps * stronger.step_size >= 2 * stronger.eps  # from one end of the budget to the other


SUITE = grid.exhibit("strength-mnist")["evaluations"]["pgd"]
CHANGES = {
    "reference": {},
    "transfer": {},
    "fgsm": {"num_steps": 1, "step_size": 0.3, "random_start": False},
    "bim": {"random_start": False},
    "pgd-momentum": {"momentum": 1},
    "pgd-margin": {"loss": "margin"},
    "pgd-100": {"num_steps": 100},
    "pgd-1000": {"num_steps": 1000},
    "pgd-restarts": {"num_steps": 100, "early_stop": True, "restarts": 10},
}


@pytest.mark.parametrize(("name", "changes"), CHANGES.items())
def test_the_suite_is_the_papers_attack_but_for_what_its_names_say(name, changes):
    paper = plans.of(MNIST).evaluation("pgd").settings
    settings = plans.of(MNIST).evaluation(name).settings
    assert settings["threat_model"] == {**paper["threat_model"], **changes}
    attacks.ThreatModel(**settings["threat_model"])
    assert (settings["against"], settings["sizes"], settings["seed"]) == ("label", {"test": 1000}, 0)
    assert list(plans.metrics(name)) == ["robust_accuracy"]


def test_a_step_of_fgsm_is_the_whole_budget():
    assert plans.of(CIFAR10).evaluation("fgsm").settings["threat_model"]["step_size"] == 8 / 255


@pytest.mark.parametrize("exhibit", ["strength-mnist", "strength-cifar10"])
@pytest.mark.parametrize("scale", ["paper", "laptop"])
def test_the_suite_is_whole_at_real_scales_and_on_the_same_images(exhibit, scale):
    (first, *_) = grid.runs(exhibit, scale)
    assert plans.of(first).evaluations(exhibit) == ["pgd", *SUITE]
    assert {*SUITE} == {*CHANGES, "square", "autoattack"}
    sizes = [plans.of(first).evaluation(name).settings["sizes"] for name in SUITE]
    assert len({json.dumps(size) for size in sizes}) == 1
    whole = {
        "iterations": 100,
        "targets": 9,
        "queries": 5000,
        "eps": plans.of(first).evaluation("pgd").settings["threat_model"]["eps"],
    }
    assert plans.of(first).evaluation("autoattack").settings["autoattack"] == whole
    assert plans.of(first).evaluation("square").settings["square"] == {"queries": whole["queries"], "eps": whole["eps"]}
    assert all("threat_model" not in plans.of(first).evaluation(name).settings for name in ("square", "autoattack"))


def test_a_scale_may_ask_for_fewer_evaluations():
    (smoke,) = grid.runs("strength-cifar10", "smoke")
    assert {"pgd-1000", "autoattack"} & {*plans.of(smoke).evaluations("strength-cifar10")} == set()
    (laptop, *_) = grid.runs("strength-cifar10", "laptop")
    assert {"pgd-1000", "autoattack"} <= {*plans.of(laptop).evaluations("strength-cifar10")}


def test_a_transferred_attack_knows_its_surrogate():
    twin = replace(MNIST, training="standard")
    assert plans.of(MNIST).evaluation("transfer").surrogate == twin
    assert plans.of(MNIST).evaluation("transfer").settings["surrogate"] == plans.of(twin).settings
    assert plans.of(MNIST).evaluation("pgd").surrogate is None


@pytest.mark.parametrize("exhibit", ["strength-mnist", "strength-cifar10"])
@pytest.mark.parametrize("scale", grid.SCALES)
def test_a_surrogate_is_the_network_that_the_table_shows_beside_the_attacked_one(exhibit, scale):
    for run in grid.runs(exhibit, scale):
        surrogate = plans.of(run).evaluation("transfer").surrogate
        assert (surrogate.transform, surrogate.training, surrogate.seed) == (run.transform, "standard", run.seed)
        assert surrogate in grid.runs(_trained_for(exhibit), scale)
        other = replace(run, recipe="third")  # of a length that the table has not
        assert plans.of(other).evaluation("transfer").surrogate == replace(other, training="standard")


@pytest.mark.parametrize(("run", "last"), [(MNIST, 0.5), (CIFAR10, 16 / 255)], ids=str)
def test_a_curve_goes_from_no_budget_over_the_papers_to_all_there_is(run, last):
    settings = plans.of(run).evaluation("eps-curve").settings
    eps = settings["threat_model"]["eps"]
    assert settings["eps"] == sorted(settings["eps"])
    assert settings["eps"][0] == 0
    assert {eps, last, 0.5, 1} <= {*settings["eps"]}
    assert settings["threat_model"] == plans.of(run).evaluation("pgd").settings["threat_model"]


@pytest.mark.parametrize("exhibit", ["strength-mnist", "strength-cifar10", "curve-mnist", "curve-cifar10"])
@pytest.mark.parametrize("scale", grid.SCALES)
def test_attacks_need_no_run_but_those_of_tables_2_and_3(exhibit, scale):
    assert set(grid.runs(exhibit, scale)) <= set(grid.runs(_trained_for(exhibit), scale))


@pytest.mark.parametrize("exhibit", ["figure-5-cifar10-robust", "autoattack-cifar10", "curve-cifar10", "table-7-cifar10"])
@pytest.mark.parametrize("scale", grid.SCALES)
def test_what_stands_beside_table_3_is_of_its_networks(exhibit, scale):
    assert set(grid.runs(exhibit, scale)) <= set(grid.runs("table-3", scale))


@pytest.mark.parametrize("scale", grid.SCALES)
def test_the_original_among_the_gamma_mappings_is_the_one_of_table_3(scale):
    originals = {run for run in grid.runs("figure-3a", scale) if run.transform == "original"}
    assert {run.training for run in originals} == {"standard", "pgd"}
    assert {replace(run, seed=0) for run in originals} == {run for run in originals if run.seed == 0}
    assert {run for run in originals if run.seed == 0} <= set(grid.runs("table-3", scale))
    assert set(grid.runs("autoattack-gamma", scale)) <= set(grid.runs("figure-3a", scale))


def test_exhibits_of_a_run():
    assert {"table-2", "footprints", "table-1", "table-4", "curve-mnist", "table-7-mnist"} <= {*grid.exhibits_of(MNIST)}
    assert "footprints" not in grid.exhibits_of(replace(MNIST, transform="smooth-2"))
    assert grid.exhibits_of(replace(MNIST, seed=99)) == []
    assert "table-3" in grid.exhibits_of(replace(CIFAR10, dataset="cifar10-jpeg"))


# --- choices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "name"), [(None, "cifar10"), ("", "cifar10"), ("cifar10", "cifar10"), ("cifar10-jpeg",) * 2])
def test_the_environment_chooses_the_cifar10_set(monkeypatch, given, name):
    if given is not None:
        monkeypatch.setenv("CIFAR10", given)
    assert {run.dataset for run in grid.runs("table-3", "laptop")} == {name}
    assert {run.dataset for run in grid.runs("table-3", "laptop", cifar10="cifar10")} == {"cifar10"}
    assert {run.dataset for run in grid.runs("table-3", "smoke")} == {"cifar10"}  # built in: no JPEG twin
    assert {run.dataset for run in grid.runs("table-2", "laptop")} == {"mnist"}
    assert plans.of(grid.runs("table-3", "laptop")[0]).settings["data"]["source"] == name


def test_another_cifar10_set_is_refused(monkeypatch):
    monkeypatch.setenv("CIFAR10", "cifar100")
    with pytest.raises(ValueError, match="CIFAR10=cifar100 is not a data set; allowed: cifar10, cifar10-jpeg"):
        grid.runs("table-3", "laptop")


def test_seeds():
    assert {run.seed for run in grid.runs("table-2", "laptop")} == {0, 1, 2}
    assert {run.seed for run in grid.runs("table-2", "laptop", seeds=2)} == {0, 1}
    assert len(grid.runs("table-2", "laptop", seeds=1)) == 18


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("seeds", [0, -1, 4, 1.5, "two"])
def test_seeds_refused(seeds):
    with pytest.raises(ValueError, match=f"seeds must be 'all' or from 1 to 3 for table-2 at laptop, given {seeds!r}"):
        grid.runs("table-2", "laptop", seeds=seeds)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale": "huge"}, "unknown scale 'huge'; allowed: paper, laptop, smoke"),
        ({"dataset": "imagenet"}, "unknown dataset 'imagenet'; allowed: mnist, fashion_mnist, cifar10, cifar10-jpeg"),
        ({"model": "resnet50"}, "unknown model 'resnet50'; allowed: lenet5, wide_resnet28"),
        ({"training": "trades"}, "unknown training 'trades'; allowed: standard, pgd"),
        (
            {"recipe": "best"},
            r"unknown recipe 'best'; allowed: default, third, sixth, twice, thrice, four-times, nine-times, published",
        ),
        ({"train_size": 0}, "train_size must be from 1 to 60000 for mnist at paper, given 0"),
        ({"train_size": 60001}, "given 60001"),
        ({"scale": "smoke", "train_size": 60000}, "train_size must be from 1 to 4000 for mnist at smoke"),
        ({"scale": "smoke", "dataset": "cifar10-jpeg"}, "dataset 'cifar10-jpeg' has no settings at scale smoke"),
        ({"seed": -1}, r"seed must be from 0 to 2\*\*32 - 1, given -1"),
        ({"seed": 2**32}, "given 4294967296"),
        ({"widen_factor": 0.0}, "widen_factor must be .*given 0"),
        ({"widen_factor": float("nan")}, "widen_factor must be .*given nan"),
        ({"widen_factor": float("inf")}, "widen_factor must be .*given inf"),
    ],
    ids=lambda value: "-".join(f"{name}={given}" for name, given in value.items()) if isinstance(value, dict) else "",
)
def test_a_run_refuses(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(MNIST, **changed)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "mnist",
        "mnist/smooth-3/lenet5/pgd/n60000/default/seed0",
        "mnist/smooth-3/lenet5-w1/pgd/n60000/default",
        "mnist/smooth-3/lenet5-w1/pgd/60000/default/seed0",
        "mnist/smooth-3/lenet5-w1/pgd/nmany/default/seed0",
        "mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed",
        "mnist/smooth-3/lenet5-wide/pgd/n60000/default/seed0",
        "mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed0/pgd.json",
    ],
)
def test_what_is_not_a_key(key):
    with pytest.raises(ValueError, match=r"is not a run's key; a key is DATASET/TRANSFORM/.* such as mnist/smooth-3"):
        Run.parse(key, "paper")


def test_what_is_not_a_measurements_key():
    with pytest.raises(ValueError, match="is not a measurement's key; a key is measured/QUANTITY/DATASET/TRANSFORM"):
        grid.parse("measured/volume/mnist", "paper")
    with pytest.raises(ValueError, match="unknown dataset 'imagenet'"):
        grid.parse("measured/pixel_histogram/imagenet/original", "paper")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid.runs("table-9", "smoke"), "unknown exhibit 'table-9'; allowed: table-2, footprints, table-3"),
        (lambda: grid.runs("table-2", "huge"), "unknown scale 'huge'; allowed: paper, laptop, smoke"),
        (lambda: grid.all_runs("huge"), "unknown scale 'huge'; allowed: paper, laptop, smoke"),
        (lambda: grid.exhibit(""), "unknown exhibit ''"),
        (lambda: grid.check_scale("auto"), "unknown scale 'auto'; allowed: paper, laptop, smoke"),
        (lambda: plans.metrics("cw"), "unknown evaluation 'cw'; allowed: clean, pgd, pgd-worst-case, pgd-unboxed"),
        (lambda: plans.of(MNIST).evaluation("cw").settings, "unknown evaluation 'cw'; allowed: clean, pgd"),
        (lambda: grid.runs("table-3", "laptop", cifar10="svhn"), "unknown CIFAR10 set 'svhn'; allowed: cifar10, cifar10-jpeg"),
    ],
)
def test_unknown_names(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("recipe", "times"),
    [("third", Fraction(1, 3)), ("sixth", Fraction(1, 6)), ("twice", 2), ("thrice", 3), ("four-times", 4), ("nine-times", 9)],
)
@pytest.mark.parametrize("scale", grid.SCALES)
def test_a_longer_training_differs_in_its_steps_alone(recipe, times, scale):
    run = next(run for run in grid.runs("table-3", scale) if run.training == "pgd")
    usual, longer = (copied(replace(run, recipe=name)) for name in ("default", recipe))
    steps, schedule = (usual["training"].pop(name) for name in ("steps", "schedule"))
    assert longer["training"].pop("steps") == round(steps * times)
    stretched = longer["training"].pop("schedule")
    if isinstance(schedule, dict):
        assert stretched == {str(round(int(step) * times)): lr for step, lr in schedule.items()}
    else:
        assert stretched == schedule
    assert longer == usual


def test_the_published_recipe_is_the_papers_at_every_scale():
    run = grid.Run.parse("mnist/original/lenet5-w0.125/pgd/n60000/default/seed0", "paper")
    paper = plans.of(run).settings
    assert plans.of(replace(run, recipe="published")).settings == paper
    laptop = plans.of(replace(run, recipe="published", scale="laptop")).settings
    assert laptop == paper


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "mnist/smooth-3/lenet5-w1/pgd/n60_000/default/seed0",
            "not a run's key as it is written; .*/n60000/default/seed0 is meant",
        ),
        ("mnist/smooth-3/lenet5-w1/pgd/n60000/default/seed+1", "not a run's key as it is written; .*/seed1 is meant"),
        ("mnist/smooth-3/lenet5-w 1/pgd/n60000/default/seed0", "not a run's key as it is written"),
        ("mnist/smooth-3/lenet5-w1.0/pgd/n60000/default/seed0", "not a run's key as it is written; .*lenet5-w1/"),
    ],
)
def test_a_run_has_one_name(key, message):
    """A second one would be a second record of the same numbers."""
    with pytest.raises(ValueError, match=message):
        grid.parse(key, "laptop")
