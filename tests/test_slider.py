"""The slider: a fragment of HTML that holds every level, with the numbers of the records and of the paper."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.report.sections import pictures
from lib.store import results

PAPER, TABLE_4 = results.published("table-2"), results.published("table-4")
LEVELS = list(PAPER["transform"].unique())
CLEAN, ROBUST = ("standard", "clean_accuracy"), ("pgd", "robust_accuracy")


def plate(channels: int = 1) -> dict[str, np.ndarray]:
    return {name: np.full((3, 4, 5, channels), i / 10) for i, name in enumerate(LEVELS)}


def histograms(**counts: tuple[int, ...]) -> pd.DataFrame:
    rows = [
        {"transform": name.replace("_", "-"), "left": i / len(bins), "right": (i + 1) / len(bins), "count": count}
        for name, bins in counts.items()
        for i, count in enumerate(bins)
    ]
    return pd.DataFrame(rows, columns=["transform", "left", "right", "count"])


def records(*rows) -> pd.DataFrame:
    """Rows (transform, training, metric, value)."""
    about = {
        "split": "test", "seed": 0, "n": 10000, "status": "recorded", "source": "MNIST", "model": "lenet5",
        "widen_factor": 0.25, "recipe": "default", "device": "a processor",
    }  # fmt: skip
    listed = [{**about, "transform": t, "training": g, "metric": m, "value": v} for t, g, m, v in rows]
    frame = pd.DataFrame(listed, columns=list(results.COLUMNS))
    frame.attrs = {
        "exhibit": "table-2",
        "scale": "laptop",
        "expected": 54,
        "complete": 1,
        "command": "python -m lib run table-2",
    }
    return frame


class Fragment(HTMLParser):
    """The frames of a fragment, their text and what they say; every tag must be closed in its turn."""

    VOID = ("img", "input")

    def __init__(self, exhibit) -> None:
        super().__init__()
        self.open, self.frames, self.images, self.labels, self.texts, self.lines = [], [], [], [], [], []
        self.feed(exhibit.data)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "li":
            self.frames.append(attrs)
            self.texts.append("")
        if tag == "img":
            self.images.append(attrs)
        if "aria-label" in attrs:
            self.labels.append(attrs["aria-label"])
        if tag == "path" and "stroke" in attrs:
            self.lines.append(attrs)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "li" in self.open:
            self.texts[-1] += f" {data}"


def slider(ours, paper=PAPER, widths=TABLE_4, *, pixels=None, channels=1) -> Fragment:
    pixels = histograms() if pixels is None else pixels
    html = pictures.level_slider((plate(channels), "MNIST"), pixels, ours, paper, widths, name="smooth", label="Smoothing")
    return Fragment(html)


def test_every_level_has_its_numbers_in_text_and_for_the_screen_reader():
    fragment = slider(records(("original", *ROBUST, 94.04), ("original", *CLEAN, 98.5)))
    assert [frame["data-label"] for frame in fragment.frames] == ["binarized", "original"] + [
        f"smooth {s}" for s in range(2, 9)
    ]
    assert fragment.frames[1]["data-said"] == (
        "original: robust accuracy 95.1% in the paper, 89.9% in its networks of our width, 94.0% here"
    )
    assert re.findall(r"[\d.]+%|–", fragment.texts[1]) == ["99.3%", "99.2%", "98.5%", "95.1%", "89.9%", "94.0%"]
    assert re.findall(r"[\d.]+%|–", fragment.texts[2]) == ["99.3%", "99.0%", "–", "93.0%", "87.0%", "–"]


def test_where_the_paper_has_no_number_ours_stands_alone():
    fragment = slider(records(("original", *ROBUST, 94.0)), None, None)
    assert re.findall(r"[\d.]+%|–", fragment.texts[1]) == ["–", "94.0%"]
    assert fragment.frames[1]["data-said"] == "original: robust accuracy 94.0% here"


def test_lines_run_through_what_is_there_and_break_where_nothing_is():
    ours = [("binarize", 98.0), ("original", 94.0), ("smooth-3", 90.0), ("smooth-4", 88.0)]
    fragment = slider(records(*((name, *ROBUST, value) for name, value in ours)))
    dotted = [line for line in fragment.lines if line.get("stroke-dasharray") == "1 3"]
    dashed = [line for line in fragment.lines if line.get("stroke-dasharray") == "5 3"]
    solid = [line for line in fragment.lines if "stroke-dasharray" not in line]
    assert [line["d"].count("M") + line["d"].count("L") for line in dotted + dashed] == [9, 9, 9, 9]
    assert [re.sub(r"[\d. ]", "", line["d"]) for line in solid] == ["", "MLML"]
    assert dashed[1]["stroke"] == solid[1]["stroke"] != dashed[0]["stroke"]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", solid[1]["d"])]
    assert heights == sorted(heights)  # the lower an accuracy, the further down
    assert [frame["data-x"] for frame in fragment.frames[:2]] == re.findall(r"[ML]([\d.]+)", solid[1]["d"])[:2]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pictures_are_the_images_side_by_side(channels):
    fragment = slider(records(), channels=channels)
    assert len(fragment.images) == 9
    for i, image in enumerate(fragment.images):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition("base64,")[2]))))
        assert picture.shape == (4, 3 * 5 + 2, 4)
        drawn = picture[..., 3] == 255
        assert list(drawn.all(0)) == [True] * 5 + [False] + [True] * 5 + [False] + [True] * 5
        assert (picture[drawn][:, :3] == round(25.5 * i)).all()
    assert fragment.images[1]["alt"] == "3 test images, original"


def test_histograms_are_told_in_words_and_a_missing_one_says_so():
    fragment = slider(records(), pixels=histograms(original=(10, 0, 30), smooth_2=(5, 25, 10)))
    labels = [label for label in fragment.labels if label.startswith("Pixel values")]
    assert labels == [
        "Pixel values of original, counts on a logarithmic scale: 100% of them in the outermost two bins.",
        "Pixel values of smooth 2, counts on a logarithmic scale: 38% of them in the outermost two bins.",
    ]
    assert sum("pixel histogram: not computed yet" in text for text in fragment.texts) == 7


def test_without_records_it_says_how_to_compute_them():
    ours = records()
    data = pictures.level_slider((plate(), "MNIST"), histograms(), ours, PAPER, name="smooth", label="Smoothing").data
    assert "not computed yet; compute it with: python -m lib run table-2" in data


def test_names_are_escaped():
    data = pictures.level_slider((plate(), "<b>"), histograms(), records(), PAPER, name="a", label='"x" & <y>').data
    assert "<b>" not in data
    assert 'data-name="&quot;x&quot; &amp; &lt;y&gt;"' in data


@pytest.mark.parametrize(
    ("paper", "rows", "is_said"),
    [(None, (), True), (PAPER, (), False), (None, [("original", *CLEAN, 99.0)], False)],
)
def test_a_chart_without_a_number_says_so(paper, rows, is_said):
    shown = pictures.level_slider((plate(), "MNIST"), histograms(), records(*rows), paper, name="x", label="Smoothing").data
    assert ("no accuracy is computed yet" in shown) == is_said
