"""The parts of a study's report that the notebook "Your own data" shows, as HTML for a page of the book."""

from html import escape

import pandas as pd
from IPython.display import HTML

from lib.sensitivity import report, verdict

NOT_YET = HTML("<p>Not computed yet: <code>python -m lib sensitivity FOLDER</code> computes it.</p>")


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


def _figure(figure, words: str) -> HTML:
    return HTML(f'<figure><div class="figure-box"><img src="{report.inlined(figure)}" alt="{escape(words)}"></div></figure>')


def judged(study: dict | None) -> HTML:
    """The verdict, and what to bear in mind."""
    if study is None:
        return NOT_YET
    found = verdict.judge(study)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in found.remarks)
    return HTML(f"<p><strong>{escape(found.sentence)}</strong></p><ul>{remarks}</ul>")


def decided(study: dict | None) -> HTML:
    """What was decided before it started, and the option that decides otherwise."""
    return NOT_YET if study is None else HTML(_framed(report.settings(study["plan"])))


def pictures(study: dict | None) -> HTML:
    """Some images after each change."""
    if study is None:
        return NOT_YET
    rows = []
    does = {change["name"]: change["does"] for change in study["plan"]["changes"]}
    for record in study["measured"]:
        change = record["change"]
        shown = _pictures(record["pictures"], f"after {change}")
        rows.append(f"<p><strong>{escape(change)}</strong>: {escape(does[change])}</p>{shown}")
    return HTML("".join(rows))


def accuracies(study: dict | None) -> HTML:
    """Clean and robust accuracy of each change, as bars."""
    if study is None:
        return NOT_YET
    return _figure(report.accuracy_figure(study), "Bars of clean and robust accuracy for each change.")


def numbers(study: dict | None) -> HTML:
    """The accuracies with their intervals, volume and distance, by change."""
    return NOT_YET if study is None else HTML(_framed(report.table(study)))


def curve(study: dict | None) -> HTML:
    """Robust accuracy against ε."""
    if study is None:
        return NOT_YET
    return _figure(report.curve_figure(study), "Robust accuracy over epsilon, one line a change.")


def explained(study: dict | None) -> HTML:
    """Whether perturbable volume or inter-class distance explain it."""
    if study is None:
        return NOT_YET
    return HTML("<ul>" + "".join(f"<li>{escape(said)}</li>" for said in verdict.explanations(study)) + "</ul>")


def strength(study: dict | None) -> HTML:
    """The strongest attacks on a part of the images, and the checks for hidden gradients."""
    if study is None:
        return NOT_YET
    return HTML(_framed(report.suite_table(study)) + _framed(report.hidden_table(study)))
