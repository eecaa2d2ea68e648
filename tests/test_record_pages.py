"""The pages of the records: what numbers of tables lead to, and what stands there."""

import json
import re
from dataclasses import replace

import pytest
import stored
from bs4 import BeautifulSoup
from frames import ROBUST, frame

from lib.book import record
from lib.report import words
from lib.report.table import Column, Number, Table, linked
from lib.report.values import measured_numbers, our_number, over_seeds
from lib.run import checking
from lib.store import grid, plans, records, results, weights
from lib.store.grid import Measurement, Run

RUN = Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
VOLUME = Measurement("log2_perturbable_volume", "mnist", "original", "laptop")
PAGE = "record/laptop/mnist/original/lenet5-w0.25/pgd/n60000/default"
FILE = f"laptop/{RUN.key}/pgd.json"


def page(items, repository=None, monkeypatch=None) -> BeautifulSoup:
    pages = {name: html for name, _, html in record.pages(repository)}
    assert set(pages) == {record.page_and_anchor(results.record_of(item, plans.of(item).records()[0]))[0] for item in items}
    return BeautifulSoup(
        pages[record.page_and_anchor(results.record_of(items[0], plans.of(items[0]).records()[0]))[0]], "html.parser"
    )


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (FILE, (PAGE, "seed0-pgd")),
        (f"laptop/{RUN.key}", (PAGE, "seed0")),
        (f"laptop/{RUN.key.rpartition('/')[0]}", (PAGE, "")),
        (f"laptop/{VOLUME.key}.json", (f"record/laptop/{VOLUME.key}", "")),
        ("laptop/mnist/a/b-w0.25/pgd/n1/third-weight-decay-.002/seed0/pgd.json",
         ("record/laptop/mnist/a/b-w0.25/pgd/n1/third-weight-decay-.002", "seed0-pgd")),
    ],
)  # fmt: skip
def test_where_a_record_s_page_is(path, place):
    assert record.page_and_anchor(path) == place


def test_a_number_leads_to_its_record_and_a_mean_to_all_seeds():
    rows = frame(("original", *ROBUST, 94.0, 0), ("original", *ROBUST, 93.0, 1), ("binarize", *ROBUST, 97.0, 0))
    rows["key"] = [f"mnist/{row.transform}/lenet5-w0.25/pgd/n60000/default/seed{row.seed}" for row in rows.itertuples()]
    means = over_seeds(rows, *ROBUST)
    table = Table([Column("variant"), Column("ours", ".1f", delta=True)], [
        ("original", our_number(means, "original", 95.0)), ("binarized", our_number(means, "binarize")), ("none", Number()),
    ])  # fmt: skip
    folder = "../results/laptop/mnist"
    text = table.markdown()
    assert f'<a class="record" href="{folder}/original/lenet5-w0.25/pgd/n60000/default">93.5 ± 0.5</a> (-1.5)' in text
    assert f'<a class="record" href="{folder}/binarize/lenet5-w0.25/pgd/n60000/default/seed0/pgd.json">97.0</a>' in text
    assert text.count("<a ") == 2
    html = record.link_records(f'<a class="record" href="{folder}/{FILE[13:]}">', "notebooks/sec3")
    assert html == f'<a class="record" href="../{PAGE}.html#seed0-pgd">'
    assert record.link_records('<a class="record" href="../results/laptop/measured/a/b/c.json">', "index").endswith(
        'href="record/laptop/measured/a/b/c.html">'
    )
    values = table.values()
    assert values["ours, records"][1] == "laptop/mnist/binarize/lenet5-w0.25/pgd/n60000/default/seed0/pgd.json"
    assert len(values["ours, records"][0].split("; ")) == 2


def test_a_measured_number_leads_to_its_record():
    stored.write(VOLUME, "measured")
    number = measured_numbers(results.frame([VOLUME]), "log2_perturbable_volume")["original"]
    assert number.records == (f"laptop/{VOLUME.key}.json",)
    assert linked("-1.5", number.records) == f'<a class="record" href="../results/laptop/{VOLUME.key}.json">-1.5</a>'


def test_the_csv_files_carry_the_key():
    stored.write(RUN, "training")
    stored.write(RUN, "pgd")
    assert {*results.frame([RUN])["key"]} == {RUN.key}
    assert results.records_of(results.frame([RUN])) == [FILE]


def test_a_page_says_all_of_a_record(monkeypatch):
    stored.write(RUN, "training", weights="0123456789ab")
    stored.write(RUN, "pgd", 0.75, weights="0123456789ab", data={"test": 64 * "a"})
    soup = page([RUN], "https://github.com/someone/book")
    part = soup.find(id="seed0-pgd").find_next("table")
    cells = [cell.get_text() for cell in part.find("td", string="robust accuracy").parent.find_all("td")]
    assert cells[:3] == ["robust accuracy", "test", "75.00%"]
    assert re.fullmatch(r"\d+\.\d to \d+\.\d", cells[3])
    assert cells[4] == "7,500 of 10,000"
    text = " ".join(soup.get_text().split())
    held = records.read(RUN, "pgd")
    for statement in (RUN.key, "Source: somewhere", f"Device: {held['device']}", "Seed: 0", 64 * "a", "Weights: 0123456789ab"):
        assert statement in text
    assert json.loads(soup.find(id="seed0-pgd").find_next("details").pre.get_text()) == held["settings"]
    code = {link.get_text(): link["href"] for link in soup.find_all("a") if "/code/" in link["href"]}
    assert {"lib.attacks.pgd", "lib.evaluation.evaluate", "lib.training.train_together"} <= code.keys()
    name, line = re.fullmatch(r"(?:\.\./)+code/(\w+)\.html#line-(\d+)", code["lib.attacks.pgd"]).groups()
    assert "def pgd(" in "".join((records.ROOT / "lib" / f"{name}.py").read_text().splitlines()[int(line) - 1 : int(line) + 1])
    assert soup.find("a", string="pgd.json")["href"].endswith(f"/records/{FILE}")
    commands = [command.get_text() for command in soup.find_all("pre") if command.get_text().startswith(("python", "RESULTS"))]
    assert commands == [checking.anew_command(RUN, held)]  # no weights are kept, so there is nothing to check
    weights.path(RUN).parent.mkdir(parents=True)
    weights.path(RUN).touch()
    assert f"python -m lib check {RUN.key} --scale laptop" in page([RUN]).get_text()


def test_a_page_says_what_took_the_steps_and_which_exhibits_show_the_run():
    stored.write(RUN, "training", engine="compiled", step="framework")
    stored.write(RUN, "pgd", engine="compiled")
    stored.write(RUN, "transfer", engine="compiled")  # as earlier records say, whose attack was on the surrogate
    soup = page([RUN])
    facts = {
        name: {item.get_text() for item in soup.find(id=f"seed0-{name}").find_next("ul").find_all("li")}
        for name in ("training", "pgd", "transfer")
    }
    assert {"Engine: compiled", "Training step: framework"} <= facts["training"]
    assert "Engine: compiled" in facts["pgd"]
    assert not [fact for name in ("pgd", "transfer") for fact in facts[name] if fact.startswith("Training step")]
    assert not [fact for fact in facts["transfer"] if fact.startswith("Engine")]
    text = " ".join(soup.get_text().split())
    assert (
        "Shown by: table-2: Robustness on MNIST variants (Sections 3.3 and C, Table 2 [paper] and Figure 2a [paper]); " in text
    )


def test_a_page_lists_every_seed_and_their_mean():
    seeds = [RUN, replace(RUN, seed=1)]
    for run, share in zip(seeds, (0.5, 0.7), strict=True):
        stored.write(run, "training")
        stored.write(run, "pgd", share)
    soup = page(seeds)
    cells = soup.find(id="seeds").find_next("td", string="robust accuracy").parent.find_all("td")
    assert cells[2].get_text() == "60.00%"
    assert [(link["href"], link.get_text()) for link in cells[4].find_all("a")] == [
        ("#seed0-pgd", "50.00%"), ("#seed1-pgd", "70.00%"),
    ]  # fmt: skip
    assert {"seed0-pgd", "seed1-pgd"} <= {tag["id"] for tag in soup.find_all(id=True)}


def test_stale_and_dirty_records_say_so():
    stored.write(RUN, "training")
    stored.write(RUN, "pgd")
    file = records.path(RUN, "pgd")
    held = json.loads(file.read_text())
    for change, sentence in (
        ({"commit": "0123456789ab-dirty"}, "computed by code with changes that were not committed"),
        ({"numerics": 1}, "This record is stale"),
    ):
        file.write_text(json.dumps({**held, **change}))
        assert sentence in page([RUN]).get_text()
    file.write_text(json.dumps({**held, "numerics": 1}))
    assert "robust accuracy" not in page([RUN]).find(id="seed0-pgd").find_next("ul").get_text()
    assert not page([RUN]).find("td", string="robust accuracy")


def test_a_table_of_one_seed_says_where_the_mean_over_more_stands():
    runs = [run for run in grid.runs("table-2", "laptop") if run.transform == "smooth-3" and run.training == "pgd"]
    assert len(runs) == 3
    for run in runs:
        stored.write(run, "training")
        stored.write(run, "pgd")
    assert results.more_seeds(runs) == {}
    assert results.more_seeds(runs[:1]) == {(3, "table-2", 0.25): ["smooth-3"]}
    rows = frame(("smooth-3", *ROBUST, 83.8, 0), exhibit="footprints")
    rows.attrs["more_seeds"] = results.more_seeds(runs[:1])
    assert "smooth 3: 3 seeds are recorded; `table-2` shows the mean over them" in words.badge(rows)
    rows.attrs["more_seeds"] = {}
    assert "are recorded" not in words.badge(rows)
