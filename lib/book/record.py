"""Writes the pages of the records: one for each trained network, with all its seeds, and one for each measurement.

Every number of ours in a table leads there. They are made when the book is built. They stand in no table of contents, and
Sphinx does not index them for the search. What a record says is text: Jinja escapes all of it.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sphinx.util.osutil import relative_uri

from lib import training
from lib.book import paper_numbers
from lib.report.words import TRAININGS, is_dirty, set_name, transform_label
from lib.run import checking, evaluations
from lib.store import grid, plans, records, results, schema, weights
from lib.store.grid import Item, Measurement, Run
from lib.store.intervals import Spreads, estimate, spread_of

FOLDER = "record"  # of the pages, in the built book
FILES = "records"  # of the files: the records themselves, and the tables of the exhibits
# The modules whose functions compute a number. They are pages of the book, as those of the exhibits are.
MODULES = ("lib.attacks", "lib.certified", "lib.evaluation", "lib.run.evaluations", "lib.run.measurements", "lib.training")


def page_and_anchor(path: str) -> tuple[str, str]:
    """(page, anchor) of a record, or of the folder of a run or of its seeds: `laptop/mnist/…/default/seed0/pgd.json`."""
    parts = path.removesuffix(".json").split("/")
    if parts[1:2] == ["measured"]:
        return "/".join((FOLDER, *parts)), ""
    return "/".join((FOLDER, *parts[:7])), "-".join(parts[7:])


def link_records(html: str, page: str) -> str:
    """HTML of the page `page` whose links to records, `../results/…`, lead to the records' pages."""

    def link(match: re.Match) -> str:
        target, anchor = page_and_anchor(match[1])
        return f'<a class="record" href="{relative_uri(f"{page}.html", f"{target}.html")}{f"#{anchor}" if anchor else ""}"'

    return re.sub(r'<a class="record" href="\.\./results/([^"]+)"', link, html)


def code_page(module: str) -> str:
    """The page of a module's code."""
    return f"code/{module.rpartition('.')[2]}"


def items_by_page() -> dict[str, list[Item]]:
    """The runs, one a seed, or the measurement of each page: everything that has a record."""
    items_of_page: dict[str, list[Item]] = {}
    for scale in grid.SCALES:
        for item in grid.every(scale):
            if _record_names(item):
                items_of_page.setdefault(page_and_anchor(results.record_of(item, _record_names(item)[0]))[0], []).append(item)
    return items_of_page


def _record_names(item: Item) -> list[str]:
    return [name for name in plans.of(item).records() if records.path(item, name).is_file()]


def pages(repository: str | None) -> Iterator[tuple[str, str, str]]:
    """(page, title, HTML) of each. `repository`: the web page of the repository, where there is one."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("record.html.jinja")
    spreads: dict[str, Spreads] = {}
    for page, items in items_by_page().items():
        title, subtitle = _title(items[0])
        scale = items[0].scale
        if scale not in spreads:
            spreads[scale] = results.spreads(scale)
        seeds = [_of_item(item, page, repository, spreads[scale]) for item in items]
        text = template.render(title=title, subtitle=subtitle, scale=scale, seeds=seeds, mean=_means(items, spreads[scale]))
        yield page, title, text


def files() -> Iterator[tuple[str, Path]]:
    """(name in the folder of records, path) of each record that has a page."""
    for items in items_by_page().values():
        for item in items:
            for name in _record_names(item):
                yield results.record_of(item, name), records.path(item, name)


def _title(item: Item) -> tuple[str, str]:
    variant = f"{set_name(item.dataset) if item.dataset in grid.SET_NAMES else item.dataset}, {transform_label(item.transform)}"
    if isinstance(item, Measurement):
        return f"{item.quantity.replace('_', ' ')}: {variant}", "A measurement, without training."
    recipe = "" if item.recipe == "default" else f", recipe {item.recipe}"
    network = (
        f"{item.model}, w={item.widen_factor:g}, {TRAININGS[item.training]} training on {item.train_size:,} images{recipe}"
    )
    return f"{variant}: {network}", "A network and its training, with all seeds that are recorded."


def _of_item(item: Item, page: str, repository: str | None, spreads: Spreads) -> dict:
    names = _record_names(item)
    anchor = f"seed{item.seed}" if isinstance(item, Run) else ""
    seed_records = [_of_record(item, name, page, repository, spreads) for name in names]
    exhibits = {name: grid.exhibit(name) for name in grid.exhibits_of(item)}
    shown = "; ".join(f"{name}: {block['title']} ({paper_numbers.marked(block['where'])})" for name, block in exhibits.items())
    return {"anchor": anchor, "key": item.key, "shown": shown, "records": seed_records}


def _of_record(item: Item, name: str, page: str, repository: str | None, spreads: Spreads) -> dict:
    record, state = records.read(item, name), records.status(item, name)
    # Earlier records name an engine beside other attacks too, which it did not take.
    file, evaluated = results.record_of(item, name), record["settings"].get("evaluation", {})
    facts = {
        "device": record["device"],
        "computed": f"{record['date'][:10]}, in {record['seconds']:,.1f} seconds",
        "source": record["source"],
        "seed": item.seed if isinstance(item, Run) else record["settings"].get("seed"),
        "engine": record.get("engine") if name == "training" or evaluations.is_plain(evaluated) else None,
        "training step": record.get("step"),
        "versions": ", ".join(f"{package} {version}" for package, version in record["versions"].items()),
        "sha256 of the data": ", ".join(f"{split} {digest}" for split, digest in record.get("data", {}).items()),
        "weights": record.get("weights"),
        "failed": record.get("failed"),
    }
    commit = record["commit"]
    computes = [training.train_together] if name == "training" else checking.code_of(item, name)
    checkable = record["seconds"] <= checking.LONGEST if isinstance(item, Measurement) else weights.path(item).is_file()
    return {
        "name": name,
        "anchor": f"seed{item.seed}-{name}" if isinstance(item, Run) else "measured",
        "state": state,
        "rows": _numbers(item, record, state, spreads),
        "facts": {label: schema.one_line(str(text)) for label, text in facts.items() if text not in (None, "")},
        "commit": commit,
        "commit_page": f"{repository}/tree/{commit}" if repository and re.fullmatch("[0-9a-f]{7,40}", commit) else "",
        "dirty": is_dirty(commit),
        "file": relative_uri(f"{page}.html", f"{FILES}/{file}"),
        "code": [_code(function, page) for function in computes],
        "check": checking.check_command(item, name) if checkable and name != "training" and state == "recorded" else "",
        "anew": checking.anew_command(item, record),
        "settings": json.dumps(record["settings"], indent=1, ensure_ascii=False),
    }


def _metric_label(metric: str) -> str:
    return metric.replace("_", " ").replace(" wrt ", " w.r.t. ")


def _numbers(item: Item, record: dict, state: str, spreads: Spreads) -> list[dict]:
    """One row a number of a record: what is recorded, its interval, and of how many images it is true."""
    rows = []
    for split, metrics in record.get("metrics", {}).items() if state == "recorded" else ():
        for metric, value in metrics.items():
            row = {"metric": _metric_label(metric), "split": split, "value": f"{value:,.6g}", "interval": "", "images": ""}
            packed = record.get("outcomes", {}).get(split, {}).get(metric)
            n = record["sizes"][split]
            if packed is not None:
                spread = spread_of(spreads, item.model, item.training, metric, split)
                interval = estimate([100 * value], n, spread)
                row |= {"value": f"{100 * value:.2f}%", "interval": f"{interval.low:.1f} to {interval.high:.1f}"}
                row["images"] = f"{int(records.unpack(packed, n).sum()):,} of {n:,}"
            rows.append(row)
    return rows


def _means(items: list[Item], spreads: Spreads) -> list[dict]:
    """Where several seeds are recorded, one row a number: its value in each, linked, and the mean with its interval."""
    if len(items) < 2:
        return []
    values_by_metric: dict[tuple[str, str, str], dict[str, tuple[float, int]]] = {}
    for run in items:
        for name in _record_names(run):
            if name != "training" and records.status(run, name) == "recorded":
                record = records.read(run, name)
                for split, metrics in record["metrics"].items():
                    for metric, value in metrics.items():
                        by_seed = values_by_metric.setdefault((name, metric, split), {})
                        by_seed[f"seed{run.seed}"] = 100 * value, record["sizes"][split]
    rows = []
    for (name, metric, split), by_seed in values_by_metric.items():
        if len(by_seed) < 2:  # that one stands with its seed
            continue
        spread = spread_of(spreads, items[0].model, items[0].training, metric, split)
        interval = estimate([value for value, _ in by_seed.values()], min(n for _, n in by_seed.values()), spread)
        rows.append(
            {
                "metric": _metric_label(metric), "split": split, "mean": f"{interval.value:.2f}%",
                "interval": f"{interval.low:.1f} to {interval.high:.1f}",
                "seeds": [
                    {"name": seed, "anchor": f"{seed}-{name}", "value": f"{value:.2f}%"} for seed, (value, _) in by_seed.items()
                ],
            }
        )  # fmt: skip
    return rows


def _code(function: Callable, page: str) -> dict:
    function = inspect.unwrap(function)
    module, line = function.__module__, function.__code__.co_firstlineno
    target = relative_uri(f"{page}.html", f"{code_page(module)}.html")
    return {"name": f"{module}.{function.__name__}", "target": f"{target}#line-{line}"}
