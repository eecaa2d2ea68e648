"""What the prose and the captions type themselves, a size or a number of steps, is what the grid and the records have."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from lib import data
from lib.report import claims
from lib.report.sections import length, sec2_distances
from lib.store import grid, plans, records, results
from lib.store.intervals import ANY

ROOT = Path(__file__).resolve().parents[1]


def prose(page: str) -> str:
    """The Markdown of a page, with one space between words."""
    file = ROOT / "notebooks" / f"{page}.ipynb"
    if file.exists():
        cells = nbformat.read(file, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", text)


def runs(exhibit: str, scale: str = "laptop", training: str = "pgd") -> list[grid.Run]:
    return [run for run in grid.runs(exhibit, scale) if run.training == training]


def evaluated(exhibit: str, evaluation: str, scale: str = "laptop", training: str = "pgd") -> dict:
    return plans.of(runs(exhibit, scale, training)[0]).evaluation(evaluation).settings


def measured(exhibit: str) -> dict:
    return plans.of(grid.runs(exhibit, "laptop")[0]).settings


def steps(run: grid.Run) -> int:
    return plans.of(run).settings["training"]["steps"]


def listed(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def test_attacks_are_run_on_as_many_images_as_the_pages_say():
    suite = [evaluated(f"strength-{name}", "reference")["sizes"]["test"] for name in ("mnist", "cifar10")]
    assert f"({suite[0]} images of MNIST and {suite[1]} of CIFAR10 at scale `laptop`)" in prose("strength")
    for name, count in (("mnist", 40), ("cifar10", 10)):
        curve = evaluated(f"curve-{name}", "eps-curve")
        assert curve["threat_model"]["num_steps"] == count
        images = curve["sizes"]["test"]
        assert re.search(
            rf"under PGD with {count} steps against ε, .*? on {images:,} test images at scale `laptop`", prose("strength")
        )
    assert f"under AutoAttack on {evaluated('autoattack-narrow', 'autoattack', 'paper')['sizes']['test']:,} of them" in prose(
        "appB"
    )
    restarts = grid.spec()["evaluations"]["pgd-restarts"]["attack"]
    assert f"and {restarts['num_steps']} steps from {restarts['restarts']} starts" in prose("strength")
    worst = grid.spec()["evaluations"]["pgd-worst-case"]["attack"]
    assert f"takes {worst['num_steps']} steps of the same size from each of {worst['restarts']} random starts" in prose("speed")


def test_certificates_are_of_as_many_images_as_the_captions_say():
    ramp = evaluated("exact-certificate", "ramp", training="standard")
    said = f"on {ramp['sizes']['test']:,} test images at scale `laptop`, with $\\epsilon = {ramp['threat_model']['eps']:g}$"
    assert f"{said} and Square with {ramp['ramp']['queries']} queries" in prose("appB")
    certified = evaluated("section-2.2", "certified", training="lp")
    assert f"test images ({certified['sizes']['test']:,} at scale `laptop`)" in prose("appB")


def test_simulations_are_of_as_many_points_as_the_captions_say():
    samples, points = measured("example-1")["samples"], measured("distances-uniform")["points"]
    assert f"A marker is of {samples:,} points at scale `laptop`" in prose("sec2")
    assert measured("theorem-2.1")["samples"] == samples
    assert f"({samples:,} points a marker at scale `laptop`" in prose("sec2")
    assert f"all pairs of {points:,} at scale `laptop`" in prose("sec2")
    assert measured("distances-images")["points"] == points


def test_the_spheres_are_as_appendix_d_says():
    spheres, text = grid.spec()["quantities"]["sphere_separation"]["spheres"], prose("appD")
    assert f"measured on {spheres['points']:,} others" in text
    assert f"perturbations of size ε = {spheres['eps']:g} " in text
    assert spheres["starts"] == 3
    assert "Of three starts we keep" in text
    for widths in spheres["widths"].values():
        assert f"narrowest of the networks tried ({listed(widths)} units)" in text
    assert f"after {grid.spec()['quantities']['linear_margin']['blobs']['steps']:,} steps" in text


def test_accuracies_on_training_images_are_of_a_part_of_them():
    images = evaluated("figure-4-capacity-mnist", "pgd")["sizes"]["train"]
    assert f"on training images ({images:,} of them for ours) above" in prose("sec5")
    assert f"accuracies on training images are of {images:,} of them" in prose("scorecard")


@pytest.mark.parametrize(
    ("exhibit", "page"), [("table-2", "sec3"), ("table-3", "sec3"), ("figure-3b", "sec4"), ("table-1", "sec5")]
)
def test_captions_name_the_papers_width(exhibit, page):
    paper, ours = ({run.widen_factor for run in runs(exhibit, scale)} for scale in ("paper", "laptop"))
    (width,) = paper
    assert f"w = {width:g}" in prose(page).replace("$", "")
    assert ours == {0.25}  # of which the captions say "ours", "wider" and "w = .25"


def test_table_7_s_networks_are_those_of_tables_2_and_3():
    for name, table in (("mnist", "table-2"), ("cifar10", "table-3")):
        for scale in ("paper", "laptop"):
            assert {*runs(f"table-7-{name}", scale)} <= {*runs(table, scale)}


def test_captions_name_a_third_and_a_ninth_of_the_steps():
    whole = {"mnist": steps(runs("table-2")[0]), "cifar10": steps(runs("table-3")[0])}
    for name, share in (("mnist", 3), ("cifar10", 9)):
        samples = runs(f"figure-4-samples-{name}")
        assert {share * steps(run) for run in samples} == {whole[name]}
        assert (len({run.transform for run in samples}), len({run.train_size for run in samples})) == (2, 3)
    assert {9 * steps(run) for run in runs("figure-4-capacity-cifar10")} == {whole["cifar10"]}
    assert {steps(run) for run in runs("figure-4-capacity-mnist")} == {whole["mnist"]}
    rates = {steps(run): plans.of(run).settings["training"]["lr"] for run in runs("tuning-mnist")}
    assert {rate / rates[min(rates)] for count, rate in rates.items() if count > min(rates)} == {0.5}


def test_the_page_speed_names_the_benchmark_s_settings():
    rows, text = results.benchmark("pgd-cpu"), prose("speed")
    taken = rows.groupby(rows["case"].str.partition("-")[0])["num_steps"].agg(["min", "max"])
    assert taken.loc["lenet5"].tolist() == [10, 10]
    assert taken.loc["wide_resnet28"].tolist() == [5, 5]
    assert "(10 for LeNet5, 5 for WRN-28)" in text
    assert f"percent of the {rows['batch'].max()} images of the largest batch" in text
    (trained,) = re.findall(r"steps=(\d+), batch_size=", (ROOT / "benchmarks" / "pgd.py").read_text(encoding="utf-8"))
    assert f"trained for {trained} steps" in text


@pytest.mark.usefixtures("committed_records")
def test_what_the_pages_say_of_distances():
    distances = sec2_distances.distances_apart(results.tables("distances-uniform"), results.tables("distances-images"))
    distances = distances.set_index(["dataset", "transform"])
    photos = distances.loc[("cifar10-jpeg", "original")]
    assert sec2_distances.nearer(photos["cube"], photos["ball"]) == "cube"
    assert sec2_distances.nearer(photos["cube_shape"], photos["ball_shape"]) == ""  # about as far from both
    scaled = distances["mean"] / distances["d"] ** 0.5
    for dataset in ("mnist", "cifar10-jpeg"):
        assert scaled[dataset, "binarize"] > scaled[dataset, "original"]
        assert distances.loc[(dataset, "binarize"), "spread"] < distances.loc[(dataset, "original"), "spread"]
    assert scaled["cifar10-jpeg", "binarize"] > scaled["mnist", "original"]
    assert distances.loc[("cifar10-jpeg", "binarize"), "spread"] < distances.loc[("mnist", "original"), "spread"]


def test_what_section_2_says_of_the_papers_binarized_sets():
    def printed(table: str, transform: str, metric: str) -> float:
        rows = results.published(table).query("training == 'pgd' and split == 'test'")
        (value,) = rows[(rows["transform"] == transform) & (rows["metric"] == metric)]["value"]
        return value

    sets = [("table-2", "original"), ("table-2", "binarize"), ("table-3", "original"), ("table-3", "saturate-inf")]
    stable = {each: printed(*each, "robustness_wrt_predictions") for each in sets}
    assert max(stable, key=stable.get) == ("table-3", "saturate-inf")
    assert printed("table-3", "saturate-inf", "robust_accuracy") < printed("table-2", "original", "robust_accuracy")
    assert printed("table-3", "saturate-inf", "clean_accuracy") == pytest.approx(80, abs=1)  # a fifth is misclassified


@pytest.mark.usefixtures("committed_records")
def test_longer_trainings_on_mnist_go_past_the_papers_number():
    table = length.tuning_table({"MNIST": (results.select("tuning-mnist"), results.published("table-4"))})
    differences = [row[-1].difference for row in table.rows]  # from the shortest to the longest
    assert np.isfinite(differences).all()
    assert abs(differences[1]) < 1 < differences[2]


@pytest.mark.usefixtures("committed_records")
def test_the_errata_on_width_say_what_the_scorecard_says():
    verdicts = claims.verdicts("5.3", claims.recorded()).set_index("claim")["paper_verdict"]
    for name in ("mnist-training-robustness-grows-with-width", "mnist-test-robustness-stops-at-width-1"):
        assert verdicts[f"5.3-{name}"] == "undecided"
    assert "the scorecard, which takes the spread of trainings into account, has these claims as undecided" in prose("errata")
    assert verdicts["5.3-cifar10-test-robustness-stops-at-width-1"] == "fails"
    assert "the scorecard says that the claim fails on the paper's own numbers" in prose("errata")


def test_half_of_fashion_mnists_pixels_are_black_or_white(real_data):
    if not (real_data / "FashionMNIST").exists():
        pytest.skip("needs Fashion-MNIST under DATA_DIR")
    images = data.load("fashion_mnist", "test").images
    assert 0.45 < ((images == 0) | (images == 255)).float().mean() < 0.55


def test_numbers_at_equal_distance_are_of_as_many_seeds_as_the_page_says():
    assert {run.seed for run in runs("table-1")} == {0, 1, 2}
    assert "each the mean of three seeds at scale `laptop`" in prose("sec5")


def test_the_two_trainings_on_cifar10_are_as_long_as_the_pages_say():
    (paper,) = {steps(run) for run in grid.runs("table-3", "paper")}
    longer, standard = ({steps(run) for run in runs("table-3", training=training)}.pop() for training in ("pgd", "standard"))
    for training, longest in (("pgd", longer), ("standard", standard)):
        lengths = sorted({steps(run) for run in runs("under-training-cifar10", training=training)})
        assert {steps(run) for run in runs("table-3", training=training)} == {longest} == {lengths[-1]}
    shorter = lengths[0]
    own = f"{longer:,} in PGD training and {standard:,} in standard training"
    assert f"fewer training steps than the paper's: {own}, where the paper has {paper:,}" in prose("appB")
    assert f"At first both had {shorter:,} steps" in prose("appB")
    assert "it takes three times the steps of PGD training" in prose("appB")
    pgd_epochs, standard_epochs = (f"{128 * each / 50_000:.0f}" for each in (longer, standard))
    assert f"on CIFAR10 (now {pgd_epochs}, and {standard_epochs} in standard training)" in prose("appB")
    assert standard == 3 * longer == 9 * shorter
    for exhibit in ("autoattack-gamma", "worst-case-cifar10", "strength-cifar10"):
        assert {steps(run) for run in grid.runs(exhibit, "laptop")} == {longer}
    for training in ("pgd", "standard"):
        gamma, saturation = ({steps(run) for run in runs(name, training=training)} for name in ("figure-3a", "table-3"))
        assert gamma == saturation
    assert "both trainings have the steps of those in {numref}`tab-3`" in prose("sec4")
    wider = [run for exhibit in ("table-5", "figure-4-capacity-cifar10") for run in grid.runs(exhibit, "laptop")]
    assert {9 * steps(run) for run in wider} == {longer}
    assert "a ninth of the steps of the PGD training of {numref}`tab-3`" in prose("sec5")
    assert prose("appC").count("a 27th of the steps of {numref}`tab-c3`") == 1
    assert prose("appC").count("a ninth of the steps of {numref}`tab-c3`") == 2
    attack = evaluated("under-training-cifar10", "pgd")["threat_model"]
    assert f"PGD with {attack['num_steps']} steps; one training each" in prose("appB")


@pytest.mark.usefixtures("committed_records")
def test_most_accuracies_on_cifar10_are_below_the_papers():
    table = length.levels_table(results.select("under-training-cifar10"), results.published("table-5"))
    shorter = [place for place, column in enumerate(table.columns) if "3,510 steps" in column.heading]
    assert len(shorter) == 3
    differences = [row[place].difference for row in table.rows for place in shorter]
    assert np.isfinite(differences).all()
    assert np.mean(np.less(differences, 0)) > 0.5


@pytest.mark.usefixtures("committed_records")
def test_the_whole_laptop_scale_takes_as_long_as_the_page_says(monkeypatch):
    """Nearly all records are of one thread, beside another run."""
    monkeypatch.setenv("CIFAR10", "cifar10-jpeg")
    needed = [(item, name) for item in grid.all_runs("laptop") for name in plans.of(item).records()]
    seconds = [records.read(item, name)["seconds"] for item, name in needed if records.status(item, name) == "recorded"]
    assert len(seconds) > 0.95 * len(needed)
    hours = sum(seconds) / 2 / 3600
    assert f"takes about {5 * round(hours / 5)} hours on two cores" in prose("reproduce")


@pytest.mark.usefixtures("committed_records")
def test_trainings_take_as_long_as_the_pages_say(monkeypatch):
    monkeypatch.setenv("CIFAR10", "cifar10-jpeg")

    def minutes(training, *exhibits):
        trained = [run for name in exhibits for run in runs(name, training=training) if records.path(run, "training").exists()]
        return [records.read(run, "training")["seconds"] / 60 for run in trained]

    shortest, longest = (f"{each(minutes('standard', 'table-3', 'figure-3a')):.0f}" for each in (min, max))
    assert f"standard training on CIFAR10 takes {shortest} to {longest} minutes" in prose("reproduce")
    shortest, longest = (f"{each(minutes('pgd', 'table-3', 'figure-3a')):.0f}" for each in (min, max))
    assert f"PGD training on CIFAR10 takes {shortest} to {longest} minutes" in prose("reproduce")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    middle = f"{np.median(minutes('pgd', 'table-2')):.0f}"
    assert f"about {middle} minutes (MNIST) or {shortest} to {longest} minutes (CIFAR10) on one core" in readme
    assert f"about {middle} minutes of one core on MNIST, and {shortest} to {longest} minutes on CIFAR10" in prose("appB")


@pytest.mark.usefixtures("committed_records")
def test_three_seeds_lie_as_far_apart_as_the_page_says():
    rows = pd.concat([results.select(name) for name in ("table-1", "table-2")])
    rows = rows.query("metric == 'robust_accuracy' and split == 'test'").drop_duplicates(["transform", "seed"])
    seeds = rows.groupby("transform")["value"]
    assert set(seeds.count()) == {3}
    deviation = np.sqrt(seeds.var().mean())
    of_the_page = f"Tables 1 and 2 at scale `laptop` robust accuracy has a standard deviation of about {deviation:.1f} points"
    assert of_the_page in prose("reproduce")


@pytest.mark.usefixtures("committed_records")
def test_two_networks_have_a_spread_of_their_own():
    assert {run.seed for training in ("standard", "pgd") for run in runs("figure-3a", training=training)} == {0, 1}
    assert "each number is the mean of two seeds" in prose("sec4")
    spreads = results.spreads("laptop")
    assert {network for network, *_ in spreads} == {"lenet5", "wide_resnet28", ANY}
    own, of_lenet5 = (
        spreads[network, "pgd", "robust_accuracy", "test"].deviation(35) for network in ("wide_resnet28", "lenet5")
    )
    said = f"the standard deviation is about {own:.1f} points, where LeNet5's would be {of_lenet5:.1f}"
    assert f"at a robust accuracy of 35% {said}" in prose("reproduce")
    own, of_lenet5 = (
        spreads[network, "standard", "clean_accuracy", "test"].deviation(80) for network in ("wide_resnet28", "lenet5")
    )
    assert f"at a clean accuracy of 80% it is {own:.1f} points, and {of_lenet5:.1f} for LeNet5" in prose("reproduce")
