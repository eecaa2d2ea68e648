"""The parts of a study's report that the notebook "Your own data" shows, as HTML for a page of the book."""

from collections.abc import Callable
from functools import wraps

from IPython.display import HTML

from lib.sensitivity import report, verdict

NOT_YET = HTML("<p>Not computed yet: <code>python -m lib sensitivity FOLDER</code> computes it.</p>")


def _of_a_study(part: Callable[[dict], str]) -> Callable[[dict | None], HTML]:
    """A part of the page as HTML from a study's records; if there are none, it says so."""

    @wraps(part)
    def display(study: dict | None) -> HTML:
        return NOT_YET if study is None else HTML(part(study))

    return display


@_of_a_study
def judged(study: dict) -> str:
    """The verdict and its remarks."""
    return report.part("judged", verdict.judge(study))


@_of_a_study
def decided(study: dict) -> str:
    """The settings of the study, and the options that set them."""
    return report.part("framed", report.settings(study["plan"]), report.CAPTIONS["settings"], ["value"])


@_of_a_study
def pictures(study: dict) -> str:
    """Some images after each change."""
    return report.part("pictures", study["measured"], report.what_changes_do(study))


@_of_a_study
def accuracies(study: dict) -> str:
    """Clean and robust accuracy of each change, as bars."""
    return _figure(report.accuracy_figure(study), "accuracies", report.CAPTIONS["accuracies"])


@_of_a_study
def numbers(study: dict) -> str:
    """The accuracies with their intervals, volume and distance, by change."""
    return report.part("framed", report.table(study), report.CAPTIONS["table"])


@_of_a_study
def curve(study: dict) -> str:
    """Robust accuracy against ε."""
    return _figure(report.curve_figure(study), "curve", report.curve_caption(study))


@_of_a_study
def explained(study: dict) -> str:
    """Whether perturbable volume or inter-class distance explain it."""
    return report.part("explained", verdict.explanations(study))


@_of_a_study
def strength(study: dict) -> str:
    """The strongest attacks on some of the images, and the checks for masked gradients."""
    suite = report.part("framed", report.suite_table(study), report.suite_caption(study))
    return suite + report.part("framed", report.hidden_table(study), report.CAPTIONS["hidden"])


def _figure(figure, name: str, caption: str) -> str:
    return report.part("figure", report.inlined(figure), report.WORDS[name], caption)
