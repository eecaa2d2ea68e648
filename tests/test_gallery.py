"""The gallery: what networks say of an image before and after an attack, by budget, variant and training."""

import numpy as np
import pytest
import torch
from torch import nn

from lib import models
from lib.base import files
from lib.report.sections import gallery
from lib.report.sections.gallery import Answer, Gallery

THREAT = {"eps": 0.3, "step_size": 0.1, "num_steps": 5}


def answer(predicted: int, probability: float) -> Answer:
    return Answer(predicted, probability, np.full((4, 4, 1), 0.5), np.zeros((4, 4, 1)))


def test_each_budget_says_what_the_networks_answer_and_marks_the_wrong_ones():
    answers = Gallery(
        1,
        {
            0.0: {"smooth-3": {"standard": answer(1, 0.9), "PGD": answer(1, 0.8)}},
            0.3: {"smooth-3": {"standard": answer(0, 0.9999), "PGD": answer(1, 0.6)}},
        },
        "images: <b>",
    )
    shown = gallery.adversarial_gallery(answers, ("none", "one"), 0.3, name="x").data
    assert 'data-start="1"' in shown
    assert "ε = 0: 0 of 2 networks are wrong" in shown
    assert "ε = 0.3: 1 of 2 networks is wrong" in shown
    assert 'one (90.0%) → <span class="gallery-wrong">✗ none (>99.9%)' in shown
    assert 'one (80.0%) → <span class="gallery-right">✓ one (60.0%)' in shown
    assert "<b>smooth 3</b>" in shown
    assert "images: &lt;b&gt;" in shown
    assert shown.count("<img") == 4


def test_what_is_missing_is_said_in_its_place(monkeypatch, tmp_path):
    shown = gallery.adversarial_gallery("Not shown: MNIST is not at hand.", "01", 0.3, name="x").data
    assert "Not shown: MNIST is not at hand." in shown
    assert "<img" not in shown
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RESULTS_DIR", str(files.ROOT / "results"))
    found = gallery.attacked_gallery("table-2", "laptop", ["original"], (0.0, 0.3))
    assert found.startswith("Not shown: these networks are trained on MNIST, whose images are not on this machine")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    assert "no weights of table-2 are kept" in gallery.attacked_gallery("table-2", "laptop", ["original"], (0.0,))


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3])
def test_an_answer_is_of_the_image_attacked_within_the_budget(digits, eps):
    x, y = digits
    torch.manual_seed(0)
    model = models.lenet5(widen_factor=0.125).eval()
    found = gallery._answer(model, x[:1], y[:1], eps, THREAT)
    assert np.abs(found.perturbation).max() == pytest.approx(eps, abs=1e-6)
    assert found.image == pytest.approx(x[0].permute(1, 2, 0).numpy() + found.perturbation, abs=1e-6)
    logits = model(torch.from_numpy(found.image).permute(2, 0, 1)[None]).detach()
    assert found.predicted == int(logits.argmax())
    assert found.probability == pytest.approx(float(logits.softmax(1).max()), abs=1e-5)


class Brightness(nn.Module):
    """Class 1 where the mean exceeds a threshold, else class 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        over = 20 * (x.flatten(1).mean(1) - self.threshold)
        return torch.stack([-over, over], 1)


def test_the_image_is_one_on_which_the_networks_part():
    brightness = torch.tensor([0.2, 0.95, 0.52, 0.7])  # wrong; neither falls; both fall or one is not right; they part
    x = brightness.view(4, 1, 1, 1).expand(4, 1, 4, 4).contiguous()
    y = torch.ones(4, dtype=torch.long)
    networks = {"a": {"PGD": Brightness(0.5).eval()}, "b": {"PGD": Brightness(0.3).eval()}}
    images = dict.fromkeys(networks, (x, y, "source"))
    assert gallery._chosen(images, networks, y, THREAT) == 3
    only = {"a": networks["a"]}
    assert gallery._chosen(images, only, y, THREAT) == 1  # none parts them: the first that is right
