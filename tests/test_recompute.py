"""A committed record, computed again from scratch on real data: about two minutes on one core."""

import pytest

from lib.run import processes
from lib.store import grid, records, results
from lib.store.intervals import estimate, pooled

RUN = grid.Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/short/seed0", "laptop")
METRICS = ("clean_accuracy", "robust_accuracy", "robustness_wrt_predictions")


@pytest.fixture
def committed(monkeypatch):
    """The accuracies of the record and of its twins with other seeds, in percent, by metric, on test images."""
    with monkeypatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(records.ROOT / "results"))
        frame = results.select("precision", "laptop")
    rows = frame[(frame["transform"] == RUN.transform) & (frame["recipe"] == RUN.recipe) & (frame["split"] == "test")]
    assert set(rows["status"]) == {"recorded"}
    assert rows["seed"].nunique() > 1
    return rows


def test_a_record_computed_again_lies_within_its_interval(committed, real_data):
    """Another processor rounds otherwise, which is one more seed: it lies within one training's interval
    around the mean of the others.
    """
    assert records.missing(RUN) == ["training", "pgd"]
    assert processes.complete([RUN]) == 1
    again = records.read(RUN, "pgd")
    assert again["sizes"]["test"] == set(committed["n"]).pop()
    for metric in METRICS:
        rows = committed[committed["metric"] == metric]
        spread = pooled(rows.assign(recipe="default"))[RUN.model, RUN.training, metric, "test"]
        interval = estimate([rows["value"].mean()], int(rows["n"].min()), spread)
        assert interval.low <= 100 * again["metrics"]["test"][metric] <= interval.high, metric
