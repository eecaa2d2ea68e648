"""The parts of a study's report that the notebook "Your own data" shows, as HTML for a page of the book."""

from collections.abc import Callable
from functools import wraps
from html import escape

import pandas as pd
from IPython.display import HTML

from lib.sensitivity import report, verdict

NOT_YET = HTML("<p>Not computed yet: <code>python -m lib sensitivity FOLDER</code> computes it.</p>")


def _of_a_study(part: Callable[[dict], str]) -> Callable[[dict | None], HTML]:
    """A part of the page as HTML from a study's records; if there are none, it says so."""

    @wraps(part)
    def display(study: dict | None) -> HTML:
        return NOT_YET if study is None else HTML(part(study))

    return display


def _framed(frame: pd.DataFrame, caption: str) -> str:
    table = frame.to_html(index=False, border=0, justify="left", classes="table")
    return f'<p>{escape(caption)}</p><div class="pst-scrollable-table-container" tabindex="0">{table}</div>'


def _pictures(images: list[str], what: str) -> str:
    """A row of pictures with alternative texts."""
    tags = (
        f'<img src="data:image/png;base64,{escape(image)}" alt="{escape(f"image {i}, {what}")}" width="52" height="52" '
        f'style="image-rendering: pixelated; margin: 2px">'
        for i, image in enumerate(images, 1)
    )
    return f'<div style="margin-bottom: 1.2rem">{"".join(tags)}</div>'


def _figure(figure, words: str, caption: str) -> str:
    image = f'<div class="figure-box"><img src="{report.inlined(figure)}" alt="{escape(words)}"></div>'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


@_of_a_study
def judged(study: dict) -> str:
    """The verdict and its remarks."""
    judgement = verdict.judge(study)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in judgement.remarks)
    return f"<p><strong>{escape(judgement.sentence)}</strong></p><ul>{remarks}</ul>"


@_of_a_study
def decided(study: dict) -> str:
    """The settings of the study, and the options that set them."""
    return _framed(report.settings(study["plan"]), report.CAPTIONS["settings"])


@_of_a_study
def pictures(study: dict) -> str:
    """Some images after each change."""
    does = {change["name"]: escape(change["does"]) for change in study["plan"]["changes"]}
    rows = {record["change"]: _pictures(record["pictures"], f"after {record['change']}") for record in study["measured"]}
    return "".join(
        f'<p style="margin-bottom: 0"><strong>{escape(name)}</strong>: {does[name]}</p>{row}' for name, row in rows.items()
    )


@_of_a_study
def accuracies(study: dict) -> str:
    """Clean and robust accuracy of each change, as bars."""
    words = "Bars of clean and robust accuracy for each change."
    return _figure(report.accuracy_figure(study), words, report.CAPTIONS["accuracies"])


@_of_a_study
def numbers(study: dict) -> str:
    """The accuracies with their intervals, volume and distance, by change."""
    return _framed(report.table(study), report.CAPTIONS["table"])


@_of_a_study
def curve(study: dict) -> str:
    """Robust accuracy against ε."""
    words = "Robust accuracy against epsilon, one line per change."
    return _figure(report.curve_figure(study), words, report.curve_caption(study))


@_of_a_study
def explained(study: dict) -> str:
    """Whether perturbable volume or inter-class distance explain it."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in verdict.explanations(study))}</ul>"


@_of_a_study
def strength(study: dict) -> str:
    """The strongest attacks on some of the images, and the checks for masked gradients."""
    suite = _framed(report.suite_table(study), report.suite_caption(study))
    return suite + _framed(report.hidden_table(study), report.CAPTIONS["hidden"])
