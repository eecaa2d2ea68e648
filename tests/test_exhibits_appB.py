"""Exhibits of Appendix B: settings, networks and certificates."""

import numpy as np
import pandas as pd
import pytest
from frames import ATTRS, frame

from lib.report.sections import appB
from lib.store import grid, plans, results


def test_settings_are_the_grids_at_every_scale():
    table = appB.settings_table("table-3", "pgd").text.set_index("setting")
    assert list(table.columns) == list(grid.SCALES)
    # The paper's, as Appendix B.1 and Section 3.2 print them.
    paper = table["paper"]
    assert paper["network"] == "WRN-28, w=4"
    assert paper["steps"].startswith("80,000 ")
    assert paper["batch size"] == "128"
    assert paper["optimizer"] == "SGD, momentum 0.9"
    assert paper["learning rate"] == "0.1; 0.01 from step 40,000; 0.001 from step 60,000"
    assert paper["weight decay"] == "0.0002"
    assert paper["attack in training"] == "ε=8/255, 10 steps of 2/255, random start, within [0, 1], float32"
    assert paper["growth of its budget"] == "none"
    for scale in ("laptop", "smoke"):
        (run, *_) = (run for run in grid.runs("table-3", scale) if run.training == "pgd")
        settings = plans.of(run).settings
        assert table.loc["steps", scale].startswith(f"{settings['training']['steps']:,} (")
        assert table.loc["learning rate", scale] == f"one-cycle, up to {settings['training']['lr']:g}"
        assert f"{settings['attack']['num_steps']} steps of " in table.loc["attack in training", scale]
        assert f"first {settings['attack']['warmup']:.0%} of" in table.loc["growth of its budget", scale]


def test_settings_of_the_lp_robust_model():
    table = appB.settings_table("section-2.2", "lp").text.set_index("setting")
    paper = table["paper"]  # Appendix B.2
    assert paper["steps"] == "120,000 (100 epochs)"
    assert paper["batch size"] == "50"
    assert paper["learning rate"] == "0.001, constant"
    assert paper["growth of this budget"] == "from 0.01 over the first 50% of the steps"
    assert paper["bounds in training"] == "exact"
    assert all("exact bounds" in cell for cell in table.loc["evaluation `certified`"])
    assert "random projections" in table.loc["bounds in training", "laptop"]
    assert list(appB.settings_table("section-2.2-cifar10", "lp").text.columns) == ["setting", "paper", "smoke"]


@pytest.mark.parametrize(("arguments", "error"), [(("table-9", "pgd"), ValueError), (("section-2.2", "pgd"), KeyError)])
def test_settings_of_what_there_is_not(arguments, error):
    with pytest.raises(error):
        appB.settings_table(*arguments)


def test_networks_layer_by_layer():
    table = appB.network_table([("lenet5", 1.0), ("small_convnet", 1.0)]).text
    totals = table[table["layer"] == "all layers"].set_index("network")["parameters"]
    assert dict(totals) == {"LeNet5, w=1": "3,274,634", "ConvNet, w=1": "166,406"}
    convolutions = table[table["layer"].str.startswith("convolution")]
    assert list(convolutions["output"]) == ["32 × 28 × 28", "64 × 14 × 14", "16 × 14 × 14", "32 × 7 × 7"]
    for _, rows in table.groupby("network"):
        counts = [int(cell.replace(",", "")) for cell in rows["parameters"] if cell]
        assert sum(counts[:-1]) == counts[-1]


def of_exhibit(name: str, training: str, **values: tuple[float | None, float | None]) -> pd.DataFrame:
    """Values of each metric, binarized and original; None is not computed."""
    rows = [
        (transform, training, metric, value, 0)
        for metric, pair in values.items()
        for transform, value in zip(("binarize", "original"), pair, strict=True)
        if value is not None
    ]
    shown = frame(*rows)
    shown.attrs = {**ATTRS, "exhibit": name, "command": f"python -m lib run {name}"}
    return shown


LP = {
    "clean_accuracy": (88.0, 64.0),
    "robust_accuracy": (86.5, 50.0),
    "certified_error": (14.0, 63.7),
    "certified_error_unboxed": (14.5, 65.0),
}
RAMP = {
    "clean_accuracy_ramp": (99.0, 98.9),
    "certified_error_ramp": (1.0, 100.0),
    "robust_accuracy_ramp_pgd": (99.0, 90.0),
    "robust_accuracy_ramp_bpda": (99.0, 40.0),
    "robust_accuracy_ramp_square": (99.0, 80.0),
    "robust_accuracy_bare_pgd": (0.5, 0.25),
    "robust_accuracy_bare_square": (3.0, 2.0),
    "moved_by_pgd_ramp": (0.0, 100.0),
}


def test_certified_models_stand_beside_the_papers():
    paper = results.published("section-2.2")
    ours = frame(("binarize", "lp", "certified_error", 13.9, 0), ("binarize", "lp", "clean_accuracy", 87.7, 0))
    table = appB.certified_table(ours, paper).text.set_index("variant")
    columns = ["clean accuracy: paper", "clean accuracy: ours (Δ)", "certified error: paper", "certified error: ours (Δ)"]
    assert table.loc["binarized", columns].tolist() == ["97.65", "87.7 (-10.0)", "3.00", "13.9 (+10.9)"]
    assert table.loc["original", columns].tolist() == ["–", "–", "37.70", "–"]


def test_certified_table_shows_both_sides_beside_the_papers():
    published = results.published("section-2.2")
    table = appB.certified_table(of_exhibit("section-2.2", "lp", **LP), published).text.set_index("variant")
    assert dict(table.loc["binarized"]) == {
        "clean accuracy: paper": "97.65",
        "clean accuracy: ours (Δ)": "88.0 (-9.7)",
        "certified error: paper": "3.00",
        "certified error: ours (Δ)": "14.0 (+11.0)",
        "certified error, no box: ours": "14.5",
        "PGD error: ours": "13.5",
    }
    assert table.loc["original", "clean accuracy: paper"] == "–"
    assert table.loc["original", "clean accuracy: ours (Δ)"] == "64.0"
    nothing = appB.certified_table(of_exhibit("section-2.2-cifar10", "lp"), published).text
    assert nothing.drop(columns="variant").eq("–").all(axis=None)  # the paper's numbers are MNIST's


def test_certified_seen_tells_contrast_and_gap():
    text = appB.certified_summary(of_exhibit("section-2.2", "lp", **LP), results.published("section-2.2"))
    for part in (
        "13.5% (PGD)",
        "**14.0%**",
        "**63.7%**",
        "**49.7 points**",
        "the paper's by 34.7",
        "0.5 points",
        "13.7 on original",
    ):
        assert part in text
    one = of_exhibit("section-2.2", "lp", certified_error=(14.0, None), robust_accuracy=(86.5, None))
    assert "Not computed yet" in appB.certified_summary(one, results.published("section-2.2"))


def test_ramp_table_shows_errors():
    table = appB.ramp_table(of_exhibit("exact-certificate", "standard", **RAMP)).text.set_index("variant")
    assert list(table.loc["binarized"]) == ["99.50", "97.00", "1.00", "1.00", "1.00", "1.00", "1.00", "0.0"]
    assert list(table.loc["original"]) == ["99.75", "98.00", "1.10", "10.00", "60.00", "20.00", "100.00", "100.0"]
    empty = appB.ramp_table(of_exhibit("exact-certificate", "standard")).text
    assert empty.drop(columns="variant").eq("–").all(axis=None)


def test_ramp_seen_tells_what_hidden_gradients_hide():
    published = results.published("section-2.2")
    text = appB.ramp_summary(of_exhibit("exact-certificate", "standard", **RAMP), published)
    for part in (
        "**1.00%**",
        "clean error of 1.00%",
        "gives 3.00%",
        "99.5% error",
        "97.0%",
        "PGD finds 10.0%",
        "**60.0%**",
        "**20.0%**",
    ):
        assert part in text
    assert "Not computed yet" in appB.ramp_summary(of_exhibit("exact-certificate", "standard"), published)


def test_ramp_figure_is_flat_wherever_eps_leads():
    (ax,) = appB.ramp_figure({"threat_model": {"eps": 0.3}, "ramp": {"slope": 10.0}}).axes
    x, y = (np.asarray(values) for values in ax.lines[0].get_data())
    assert (y[np.abs(x) <= 0.3] == 0).all()
    assert (y[np.abs(x - 1) <= 0.3] == 1).all()
    assert 0.4 < y[np.argmin(np.abs(x - 0.5))] < 0.6
