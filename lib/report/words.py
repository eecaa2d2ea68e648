"""Words for readers: names of variants, a record's text made safe for Markdown, and the badge, stamp and links of exhibits."""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsInt

import pandas as pd

from lib.report.table import Table, as_csv
from lib.store import grid, schema

TRAININGS = {"standard": "standard", "pgd": "PGD", "lp": "LP"}  # as a reader reads them


def transform_label(name: str) -> str:
    """A transform's name as a reader reads it: `smooth-square-3` → "smooth 3 (square)", `saturate-inf` → "saturate ∞"."""
    labels = {"binarize": "binarized", "original": "original", "edges": "edges"}
    if match := re.fullmatch(r"smooth-square-(\d+)", name):
        return f"smooth {match[1]} (square)"
    if match := re.fullmatch(r"(?:(.+)\+)?rescale-to-(.+)", name):
        return f"{transform_label(match[1] or 'original')}, scaled to {transform_label(match[2])}"
    return labels.get(name, name.replace("-inf", "-∞").replace("-", " "))


def set_name(dataset: str) -> str:
    """A data set's name as a reader reads it."""
    return grid.SET_NAMES[dataset]


def budget_label(eps: float) -> str:
    """A budget as the paper writes it: 8/255, 0.3."""
    numerator = round(255 * eps)
    return f"{numerator}/255" if abs(255 * eps - numerator) < 1e-9 and len(f"{eps:g}") > 5 else f"{eps:g}"


def percent(value: float) -> str:
    """A probability in percent, never rounded up to 100; "≤0" for a lower bound that says nothing."""
    if value <= 0:
        return "≤0"
    return f"{100 * value:.2f}" if value <= 0.9999 else ">99.99"


def from_to(changes: pd.Series) -> str:
    """The least and the largest of some changes, in points; one where they are written alike."""
    texts = dict.fromkeys(f"{value:+z.1f}" for value in (changes.min(), changes.max()))
    return " to ".join(texts)


def in_the_paper(changes: pd.Series) -> str:
    """The paper's changes over the variants of which a sentence has just said ours; nothing where it has none of them."""
    return f"; in the paper, over the same variants, by {from_to(changes)}" if len(changes) else ""


def as_markdown(text: object) -> str:
    """The text of a record as Markdown that shows it as it stands, in one line.

    Whatever Markdown or HTML could take for more than a letter is written as its numeric entity.
    """
    line = schema.one_line(" ".join(str(text).split()))
    escaped = re.sub(r"[^\w\s.,:;/()@+%='×∞±·–—-]|_", lambda match: f"&#{ord(match[0])};", line)
    return escaped if escaped[:1].isalnum() or not line[:1] or escaped[0] == "&" else f"&#{ord(escaped[0])};{escaped[1:]}"


def as_code(text: object) -> str:
    """As `as_markdown`, in the type of code where it is a plain name, such as a commit."""
    return f"`{text}`" if re.fullmatch(r"[\w.+-]+", str(text)) else as_markdown(text)


def as_plain_text(markdown: str) -> str:
    """The text of `badge` and `as_markdown` without Markdown, for figures."""
    return html.unescape(markdown.replace("`", ""))


def counted(number: SupportsInt, one: str, many: str = "") -> str:
    """A number and the word that agrees with it: 1 variant, 2 variants; `many` where an s is not enough: 1 is, 2 are."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def listed(parts: Iterable[str]) -> str:
    """`a`, `a and b`, or `a, b and c`; empty without any."""
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def to_compute(ours: pd.DataFrame) -> str:
    """How to compute what is missing, the end of a sentence."""
    return f"compute it with `{ours.attrs['command']}`."


def badge(*frames: pd.DataFrame) -> str:
    """The badge below an exhibit of some records: scale, data source, model, seeds, device, how many of its runs are computed.

    Of several frames, the first line is what they have in common, and each has a line for the rest, with the exhibit's name.
    Without any record it says so, and names the command that computes them.
    """
    parts_of = [_badge_parts(ours) for ours in frames]
    shared = [part for part in parts_of[0] if all(part in parts for parts in parts_of)]
    lines = [" · ".join(shared)]
    for ours, parts in zip(frames, parts_of, strict=True):
        if rest := [part for part in parts if part not in shared]:
            name = f"{as_code(ours.attrs['exhibit'])}: " if len(ours) else ""  # without a record its command names it
            lines.append(f"{name}{' · '.join(rest)}")
    return "\n\n".join(filter(None, lines))


def _badge_parts(ours: pd.DataFrame) -> list[str]:
    completed = f"{ours.attrs['complete']} of {ours.attrs['expected']}"
    computed = (
        "computed" if ours.attrs["complete"] == ours.attrs["expected"] else "complete"
    )  # of the others some records may be there
    if ours.empty:
        return [f"not computed yet; compute it with: `{ours.attrs['command']}`"]
    parts = [f"scale {ours.attrs['scale']}", *map(as_markdown, sorted(set(ours["source"])))]
    if ours["model"].any():
        parts += [f"{model} w={width:g}" for model, width in sorted(set(zip(ours["model"], ours["widen_factor"], strict=True)))]
        parts += [f"recipe {recipe}" for recipe in sorted(set(ours["recipe"])) if recipe != "default"]
        seeds = sorted(set(ours["seed"]))
        parts += [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", f"{completed} runs are {computed}"]
    else:
        parts.append(f"{completed} are {computed}")
    parts += map(as_markdown, sorted(set(ours["device"])))
    parts += [f"some records are {state}" for state in ("stale", "failed") if (ours["status"] == state).any()]
    for (count, exhibit, width), names in ours.attrs.get("more_seeds", {}).items():
        at_width = f" at w={width:g}" if ours["widen_factor"].nunique() > 1 else ""
        parts.append(
            f"{', '.join(map(transform_label, names))}{at_width}: {count} seeds are recorded; `{exhibit}` shows the mean over "
            f"them, which differs from the number here"
        )
    if "commit" in ours and any(map(is_dirty, ours["commit"])):
        parts.append("some records come from code with uncommitted changes")
    return parts


def is_dirty(commit: object) -> bool:
    """Whether a record's commit says that its code had changes that were not committed."""
    return str(commit).endswith("-dirty")  # a cell without a record has no commit


def stamp(frames: Sequence[pd.DataFrame]) -> str:
    """The line at the end of a page: scale, data, device, commit and date of the records behind it."""
    rows = pd.concat([frame[["scale", "source", "device", "commit", "date"]] for frame in frames])
    if rows.empty:
        return "This page has no records yet."
    commits = ", ".join(map(as_code, sorted(set(rows["commit"]))))
    dates = sorted({as_markdown(date[:10]) for date in rows["date"]})
    scales, sources, devices = ("; ".join(map(as_markdown, sorted(set(rows[name])))) for name in ("scale", "source", "device"))
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    note = " -dirty means that the code had changes that were not committed." if any(map(is_dirty, rows["commit"])) else ""
    origin = f"Records behind this page: scale {scales}. Data: {sources}. Device: {devices}. Commit {commits}."
    return f"{origin}{note} Computed {days}."


def downloads(name: str, tables: Table | Mapping[str, Table], ours: pd.DataFrame) -> str:
    """Links to `name`.csv, the values that the table shows, and `name`-records.csv, the records behind it, one row a number.

    The links hold the files themselves: they work without a network, a server or JavaScript.
    """
    if isinstance(tables, Table):
        values = tables.values()
    else:
        by_heading = {heading: table.values() for heading, table in tables.items()}
        values = pd.concat(by_heading, names=["quantity"]).reset_index("quantity")
    return (
        f"Download: {_csv(f'{name}.csv', values)} (the table) · "
        f"{_csv(f'{name}-records.csv', ours)} (the records behind it, one row a number)"
    )


def _csv(file: str, rows: pd.DataFrame) -> str:
    content = base64.b64encode(as_csv(rows).encode()).decode()
    return f'<a download="{file}" href="data:text/csv;charset=utf-8;base64,{content}">{file}</a>'
