"""The parts of a study's report that the notebook "Your own data" shows, as HTML for a page of the book."""

from collections.abc import Callable
from functools import wraps
from html import escape

import pandas as pd
from IPython.display import HTML

from lib.sensitivity import report, verdict

NOT_YET = HTML("<p>Not computed yet: <code>python -m lib sensitivity FOLDER</code> computes it.</p>")


def _of_a_study(piece: Callable[[dict], str]) -> Callable[[dict | None], HTML]:
    """A piece of a page, its HTML made of a study's records; where there are none, the page says so."""

    @wraps(piece)
    def shown(study: dict | None) -> HTML:
        return NOT_YET if study is None else HTML(piece(study))

    return shown


def _framed(frame: pd.DataFrame) -> str:
    table = frame.to_html(index=False, border=0, classes="table")
    return f'<div class="pst-scrollable-table-container" tabindex="0">{table}</div>'


def _pictures(images: list[str], what: str) -> str:
    """A row of pictures, and in words what they are of."""
    shown = (
        f'<img src="data:image/png;base64,{escape(image)}" alt="{escape(f"image {i}, {what}")}" width="56" height="56" '
        f'style="image-rendering: pixelated; margin: 2px">'
        for i, image in enumerate(images, 1)
    )
    return f"<div>{''.join(shown)}</div>"


def _figure(figure, words: str) -> str:
    return f'<figure><div class="figure-box"><img src="{report.inlined(figure)}" alt="{escape(words)}"></div></figure>'


@_of_a_study
def judged(study: dict) -> str:
    """The verdict, and what to bear in mind."""
    found = verdict.judge(study)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in found.remarks)
    return f"<p><strong>{escape(found.sentence)}</strong></p><ul>{remarks}</ul>"


@_of_a_study
def decided(study: dict) -> str:
    """What was decided before it started, and the option that decides otherwise."""
    return _framed(report.settings(study["plan"]))


@_of_a_study
def pictures(study: dict) -> str:
    """Some images after each change."""
    does = {change["name"]: escape(change["does"]) for change in study["plan"]["changes"]}
    shown = {record["change"]: _pictures(record["pictures"], f"after {record['change']}") for record in study["measured"]}
    return "".join(f"<p><strong>{escape(name)}</strong>: {does[name]}</p>{row}" for name, row in shown.items())


@_of_a_study
def accuracies(study: dict) -> str:
    """Clean and robust accuracy of each change, as bars."""
    return _figure(report.accuracy_figure(study), "Bars of clean and robust accuracy for each change.")


@_of_a_study
def numbers(study: dict) -> str:
    """The accuracies with their intervals, volume and distance, by change."""
    return _framed(report.table(study))


@_of_a_study
def curve(study: dict) -> str:
    """Robust accuracy against ε."""
    return _figure(report.curve_figure(study), "Robust accuracy over epsilon, one line a change.")


@_of_a_study
def explained(study: dict) -> str:
    """Whether perturbable volume or inter-class distance explain it."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in verdict.explanations(study))}</ul>"


@_of_a_study
def strength(study: dict) -> str:
    """The strongest attacks on a part of the images, and the checks for hidden gradients."""
    return _framed(report.suite_table(study)) + _framed(report.hidden_table(study))
