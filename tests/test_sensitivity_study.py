"""A study from folder to report, on tiny folders: what is recorded, resumed and said."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from killing import popen
from markupsafe import escape
from payloads import payloads
from PIL import Image

from lib import sensitivity, training
from lib.base import files
from lib.run.processes import WorkerDiedError
from lib.sensitivity import changes, command, plan, report, study, verdict
from lib.store import records
from lib.store.records import pack

ROOT = Path(__file__).resolve().parents[1]
PAYLOADS = payloads(Path("/nowhere/file"))
OPTIONS = {"steps": 6, "seeds": 2, "batch_size": 8, "attack_steps": 2, "jobs": 1, "widen_factor": 0.125}


@pytest.fixture
def images(tmp_path) -> Path:
    """Two classes, one bright and one dark, with a class whose name is HTML."""
    random = np.random.default_rng(0)
    for label, (low, high) in {"<b>dark</b>": (0, 100), "light": (150, 256)}.items():
        # A slash cannot be in a name.
        place = tmp_path / "set" / label.replace("/", "∕")
        place.mkdir(parents=True)
        for i in range(20):
            Image.fromarray(random.integers(low, high, (8, 8), dtype=np.uint8)).save(place / f"{i}.png")
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def easy(monkeypatch):
    """So few steps may end at chance, and the strongest attacks take seconds."""
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)
    for name, few in (("STARTS", 2), ("STEPS", 5), ("QUERIES", 20)):
        monkeypatch.setattr(study, name, few)


def examine(images, out, **options):
    said = []
    found = command.examine(images, ["gamma-0.6", "binarize"], out=out, say=said.append, **{**OPTIONS, **options})
    return found, said


def test_a_study_and_its_report(images, tmp_path):
    found, said = examine(images, tmp_path / "out", fixed=True)
    assert [change["name"] for change in found["plan"]["changes"]] == ["original", "gamma-0.6", "binarize"]
    assert (len(found["training"]), len(found["strong"]), len(found["measured"]), len(found["fixed"])) == (9, 3, 3, 3)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert verdict.judge(found).sentence in page
    assert "<b>dark" not in page
    assert "&lt;b&gt;dark" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert found["plan"]["digest"] in page
    assert found["plan"]["commit"] in page
    assert all(escape(change["does"]) in page for change in found["plan"]["changes"])
    assert "--fixed" in page
    table = (tmp_path / "out" / "numbers.csv").read_text(encoding="utf-8")
    assert table.startswith("change,seed,length,metric,value,n\n")
    assert re.search(r"^original,0,whole,robust_accuracy,", table, re.MULTILINE)
    assert not re.search(r"\.[0-9]{12}", table)  # no 77.10000000000001
    assert {"clean_accuracy", "robust_accuracy", "log2_perturbable_volume"} <= {
        line.split(",")[3] for line in table.split()[1:]
    }
    # The same call computes nothing, and says the same.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work").rglob("*.json")}
    again, said = examine(images, tmp_path / "out", fixed=True)
    assert again == found
    assert said[0].startswith("0 of ")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_is_missing_is_done_again_with_the_same_result(images, tmp_path):
    found, _ = examine(images, tmp_path / "out")
    (work,) = (tmp_path / "out" / "work").iterdir()
    (work / "training-01-seed1.json").unlink()
    (work / "strong-02.json").unlink()
    again, said = examine(images, tmp_path / "out")
    assert said[0].startswith("2 of ")
    for kind in ("training", "strong"):
        for one, other in zip(found[kind], again[kind], strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


NETWORK = """import torch.nn.functional as F
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 2)
    def forward(self, x):
        return self.last(F.dropout(self.first(x.flatten(1)).tanh()))  # in eval mode as well

def make():
    return Network()
"""
NOISE = "import numpy as np\nimport torch\n\ndef noise(x):\n    return (x + torch.rand_like(x) * np.random.rand()) / 2\n"


def test_a_network_and_a_change_that_draw_are_done_again_with_the_same_result(images, tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "noise.py").write_text(NOISE)
    asked = {**OPTIONS, "model": f"{tmp_path}/net.py:make", "fixed": True, "out": tmp_path / "out", "say": lambda _: None}
    found = command.examine(images, [f"{tmp_path}/noise.py:noise"], **asked)
    (work,) = (tmp_path / "out" / "work").iterdir()
    for name in ("training-01-seed0-half", "training-01-seed1", "strong-00", "strong-01", "measured-01", "fixed-01"):
        (work / f"{name}.json").unlink()
    torch.rand(7), np.random.rand(7)  # noqa: NPY002 the one that the change draws from
    again = command.examine(images, [f"{tmp_path}/noise.py:noise"], **asked)
    for kind in ("training", "strong", "measured", "fixed"):
        assert [{**record, "seconds": 0} for record in again[kind]] == [{**record, "seconds": 0} for record in found[kind]]


@pytest.mark.parametrize(("file", "option"), [("net.py", "--model"), ("noise.py", "--change")])
def test_a_file_that_is_edited_during_a_study_is_refused_and_what_was_computed_is_kept(images, tmp_path, file, option):
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "noise.py").write_text(NOISE)
    asked = {**OPTIONS, "model": f"{tmp_path}/net.py:make", "out": tmp_path / "out", "say": lambda _: None}
    command.examine(images, [f"{tmp_path}/noise.py:noise"], **asked)
    (work,) = (tmp_path / "out" / "work").iterdir()
    (work / "training-01-seed1.json").unlink()
    kept = {path: path.read_bytes() for path in work.glob("*.json")}
    study._WORKERS.clear()  # as in another process
    before = (tmp_path / file).read_text()
    (tmp_path / file).write_text(before + "# edited\n")
    with pytest.raises(changes.ChangeError, match=f"{option} .*{file}:.*: the file was edited after this study began") as told:
        study.run(work, "cpu")
    assert len(str(told.value).splitlines()) == 1
    assert {path: path.read_bytes() for path in work.glob("*.json")} == kept
    (tmp_path / file).write_text(before)
    study.run(work, "cpu")
    assert not study.missing(work, study.read_json(work / "plan.json"))


def test_other_images_or_settings_are_another_study(images, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "run", lambda *_: None)  # that it is planned is enough
    examine(images, tmp_path / "out")
    examine(images, tmp_path / "out", lr=0.003)
    next(iter((images / "light").iterdir())).unlink()
    examine(images, tmp_path / "out")
    assert len(list((tmp_path / "out" / "work").iterdir())) == 3


def test_the_plan_has_the_share_of_the_largest_class_and_says_that_steps_set_no_limit(images, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "run", lambda *_: None)
    for file in sorted((images / "light").iterdir())[5:]:
        file.unlink()  # of 20 dark images 4 are for testing, of 5 light ones 1
    found, said = examine(images, tmp_path / "out")
    assert found["plan"]["largest_class"] == 0.8
    assert "guessing is right on 80.0% of them" in said[0]
    assert "there is no limit, since --steps is given" in said[0]
    assert "--minutes" not in said[0]
    ((value, option),) = report.settings(found["plan"]).query("setting == 'time'")[["value", "option"]].to_numpy()
    assert value.startswith("no limit, since --steps is given; about ")
    assert option == "--jobs"
    found["plan"]["options"]["steps"] = None
    assert "--minutes sets the limit" in plan.in_words(found["plan"])
    assert report.settings(found["plan"]).query("setting == 'time'")["value"].item().startswith("at most 20 minutes; ")


def test_another_study_in_the_same_folder_leaves_the_report_of_the_first(images, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "run", lambda *_: None)
    out = tmp_path / "out"
    _, said = examine(images, out)
    assert not any("other stud" in line for line in said)
    names, (first,) = ("report.html", "numbers.csv"), (out / "work").iterdir()
    reports = [(first / name).read_bytes() for name in names]
    assert reports == [(out / name).read_bytes() for name in names]
    _, said = examine(images, out, lr=0.003)
    assert [(first / name).read_bytes() for name in names] == reports
    assert (out / "report.html").read_bytes() != reports[0]
    assert said[-1] == f"reports of 1 other study with this --out are kept in {out / 'work'}"


@pytest.mark.parametrize(
    ("elapsed", "first", "now", "left"),
    [
        (0, 0, 0, 1000),
        (300, 0, 0, 700),
        (1200, 0, 0, 0),
        (300, 0.5, 0.5, 200),
        (300, 0, 0.25, 900),
        (300, 0.5, 0.75, 300),
        (9, 0, 1, 0),
    ],
)
def test_the_time_left_is_the_plans_until_something_is_done(elapsed, first, now, left):
    assert plan.seconds_left(1000, elapsed, first, now) == pytest.approx(left)


def test_the_strongest_attacks_see_every_class(tmp_path, monkeypatch):
    """Also where all test images are attacked, which lie class by class; and the outcomes stay those of the same images."""
    random, seen = np.random.default_rng(0), []
    for label in range(6):
        (tmp_path / "set" / str(label)).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(30 * label, 30 * label + 100, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / str(label) / f"{i}.png")
    strong = {"images": 24, "suite_images": 12, "autoattack": True}
    monkeypatch.setattr(plan, "_choose_images", lambda made, *_: made.update(test_size=24, strong=strong))

    def suite(worker, model, x, y, eps):
        seen.append(y.bincount(minlength=6).tolist())
        return torch.ones(len(x), dtype=torch.bool), "none"

    monkeypatch.setattr(study.Worker, "_suite", suite)
    examine(tmp_path / "set", tmp_path / "out", seeds=1)
    assert seen == [[2] * 6] * 3
    worker = study.Worker(next((tmp_path / "out" / "work").iterdir()), "cpu")
    (x, y), (every_x, every_y) = worker.test_for_suite(1), worker.test(1, 24)
    assert not torch.equal(x, every_x)
    ours, every = ({(int(b), a.numpy().tobytes()) for a, b in zip(*part, strict=True)} for part in ((x, y), (every_x, every_y)))
    assert ours == every


def test_after_a_kill_it_goes_on(images, tmp_path):
    words = [sys.executable, "-m", "lib", "sensitivity", str(images), "--change", "edges", "--out", str(tmp_path / "out")]
    words += ["--steps", "150", "--batch-size", "8", "--attack-steps", "2", "--widen-factor", "0.125", "--jobs", "1"]
    with popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not list((tmp_path / "out").rglob("training-00-seed0.json")):
            assert process.poll() is None
            time.sleep(0.05)
    (first,) = (tmp_path / "out").rglob("training-00-seed0.json")
    kept = first.read_bytes()
    assert not (tmp_path / "out" / "report.html").exists()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "records are missing; the others are reused" in done.stdout
    assert first.read_bytes() == kept
    assert (tmp_path / "out" / "report.html").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(images, tmp_path, monkeypatch):
    def full(file, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    with pytest.raises(OSError, match=r"cannot write .*No space left on device; what was recorded before is kept"):
        examine(images, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.json"))


def test_two_at_once_are_refused(images, tmp_path, monkeypatch):
    asked = plan.Options(changes=("gamma-0.6", "binarize"), **OPTIONS)
    chosen = changes.select(list(asked.changes), 1)
    work = study.place(tmp_path / "out", command.folder.load(images), chosen, asked)
    work.mkdir(parents=True)
    with files.locked(work / "lock"), pytest.raises(ValueError, match="another process works on this study"):
        examine(images, tmp_path / "out")


def test_a_killed_worker_is_one_line(images, tmp_path):
    file = tmp_path / "steps.py"
    file.write_text(
        "import multiprocessing, os, signal\n\ndef f(x):\n    if multiprocessing.parent_process():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n    return x\n"
    )
    with pytest.raises(WorkerDiedError) as told:
        command.examine(images, [f"{file}:f"], out=tmp_path / "out", say=lambda _: None, **{**OPTIONS, "jobs": 2})
    assert "a process ended without an error message" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_every_change_with_a_picture(images, tmp_path):
    page, does = sensitivity.list_changes(images, out=tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    for name in does:
        assert f"after {name}" in text, name
    assert "data:image/png;base64," in text


def record(change: str, seed: int, clean: np.ndarray, robust: np.ndarray, half: bool = False) -> dict:
    outcomes = {"clean": pack(torch.from_numpy(clean)), "robust": pack(torch.from_numpy(robust))}
    return {"change": change, "seed": seed, "half": half, "steps": 1, "n": len(clean), "outcomes": outcomes, "seconds": 1.0}


def made_up(shares: dict[str, tuple[float, float]], images: int, seeds: int = 2, scatter: float = 0.0) -> dict:
    """Outcomes by chance: of each change the share of images that is right, clean and under attack, with the seeds' scatter."""
    random = np.random.default_rng(1)
    hard = random.random(images)  # the same images are hard for all
    trainings = []
    for change, (clean, robust) in shares.items():
        for seed in range(seeds):
            moved = robust + scatter * (-1) ** seed
            trainings.append(record(change, seed, hard < clean, hard + 0.05 * random.standard_normal(images) < moved))
    about = {"changes": [{"name": name} for name in shares], "classes": ["a", "b", "c", "d"], "seeds": seeds}
    about["threat_model"] = {"eps": 8 / 255}
    return {"plan": about, "training": trainings, "strong": [], "measured": [], "fixed": []}


def test_a_wide_range_is_a_sensitivity():
    found = verdict.judge(made_up({"original": (0.9, 0.7), "edges": (0.9, 0.85)}, 2000))
    assert found.kind == "sensitive"
    spread = verdict.differences(
        verdict.outcomes(made_up({"original": (0.9, 0.7), "edges": (0.9, 0.85)}, 2000)), "robust"
    ).spread
    assert spread[1] < 15 < spread[2]
    moves = r"by \d+\.\d \[\d+\.\d, \d+\.\d\] points"
    assert re.fullmatch(
        rf"Sensitive: robust accuracy moves {moves} over these changes, clean accuracy {moves}\.", found.sentence
    )
    assert found.remarks[0].startswith(
        "The brackets hold 95% intervals, from 2000 test images and 2 trainings for each change."
    )
    assert re.match(
        r"Robust accuracy is lowest for original \((69|70)\.\d%\) and highest for edges \(8[45]\.\d%\)\.", found.remarks[1]
    )


def test_a_narrow_range_on_many_images_is_none():
    assert verdict.judge(made_up({"original": (0.9, 0.7), "edges": (0.9, 0.705)}, 5000)).kind == "not sensitive"


@pytest.mark.parametrize(
    ("shares", "images", "options", "said"),
    [
        (
            {"original": (0.9, 0.7), "edges": (0.9, 0.76)},
            60,
            {},
            "the interval contains 5 points, and more test images or more --seeds",
        ),
        (
            {"original": (0.9, 0.7), "edges": (0.9, 0.7)},
            40,
            {},
            "the interval contains 5 points, and more test images or more --seeds",
        ),
        ({"original": (0.9, 0.6), "edges": (0.9, 0.8)}, 2000, {"seeds": 1}, "one training for each change does not show"),
        ({"original": (0.9, 0.7), "edges": (0.9, 0.8)}, 2000, {"scatter": 0.08}, "the interval contains 5 points"),
        ({"original": (0.9, 0.1), "edges": (0.9, 0.28)}, 2000, {}, "hardly better than guessing (25.0%)"),
        ({"original": (0.9, 0.7)}, 2000, {}, "1 change has a training that succeeded, and at least 2 are needed."),
    ],
)
def test_the_data_at_hand_cannot_tell(shares, images, options, said):
    found = verdict.judge(made_up(shares, images, **options))
    assert found.kind == "cannot tell"
    assert found.sentence.startswith("These data cannot tell: ")
    assert said in found.sentence


def test_accuracy_is_judged_beside_the_largest_class():
    """Of ten images nine are of one class: 90% is guessing, and half of the errors of a guess remain at 95%."""
    found = made_up({"original": (0.96, 0.8), "edges": (0.96, 0.9)}, 2000)
    assert verdict.judge(found).kind == "sensitive"
    found["plan"]["largest_class"] = 0.9
    judged = verdict.judge(found)
    assert "hardly better than guessing (90.0%)" in judged.sentence
    assert any("always answers the largest class is right on 90.0% of the test images" in remark for remark in judged.remarks)
    good = made_up({"original": (1.0, 0.84), "edges": (1.0, 1.0)}, 2000)
    good["plan"]["largest_class"] = 0.9
    assert verdict.judge(good).kind == "sensitive"
    good["plan"]["largest_class"] = 0.27
    assert not any("largest class" in remark for remark in verdict.judge(good).remarks)


def test_many_changes_that_are_the_same_are_no_sensitivity():
    """The largest of many differences is not taken for more than it is: of 12 equal changes none stands out."""
    shares = {"original": (0.9, 0.7), **{f"gamma-{i}": (0.9, 0.7) for i in range(1, 12)}}
    found = verdict.differences(verdict.outcomes(made_up(shares, 400)), "robust")
    assert found.spread[1] == 0.0


def test_a_failed_training_is_told_and_not_counted():
    found = made_up({"original": (0.9, 0.7), "edges": (0.9, 0.85), "clahe": (0.9, 0.8)}, 2000)
    found["training"] = [one for one in found["training"] if one["change"] != "clahe"]
    found["training"].append(
        {"change": "clahe", "seed": 0, "half": False, "failed": "the model ends at chance", "seconds": 1.0}
    )
    judged = verdict.judge(found)
    assert judged.kind == "sensitive"
    assert judged.sentence.endswith("; not counted, since all its trainings failed: clahe.")
    assert "The training of clahe with seed 0 failed and is not counted: the model ends at chance." in judged.remarks


def failed(*changes: str) -> list[dict]:
    reason = "the model ends at chance: 50.0% on its training batches"
    return [{"change": name, "seed": 0, "half": False, "failed": reason, "seconds": 1.0} for name in changes]


def test_a_change_that_no_network_learns_is_no_evidence_that_nothing_moves():
    found = made_up({"original": (0.9, 0.7), "gamma-0.9": (0.9, 0.7), "edges": (0.9, 0.7)}, 5000)
    assert verdict.judge(found).kind == "not sensitive"
    found["training"] = [one for one in found["training"] if one["change"] != "edges"] + failed("edges")
    judged = verdict.judge(found)
    assert judged.kind == "cannot tell"
    assert "all trainings on edges failed, and what a network cannot learn may differ most." in judged.sentence


def test_trainings_that_fail_name_a_remedy():
    found = made_up({"original": (0.9, 0.7), "edges": (0.9, 0.7)}, 100)
    found["training"] = failed("original", "edges")
    assert verdict.judge(found).sentence == (
        "These data cannot tell: no change has a training that succeeded, and at least 2 are needed; under ε = 8/255 a "
        "training failed (the model ends at chance: 50.0% on its training batches): a smaller --eps, more images or more "
        "--steps may help."
    )


def test_equal_accuracies_have_no_lowest_and_highest():
    found = verdict.judge(made_up({"original": (1.0, 1.5), "edges": (1.0, 1.5)}, 100))
    assert found.remarks[1] == "Robust accuracy is 100.0% for every change."


def test_a_stronger_attack_that_leaves_more_fails_its_check():
    few, many = np.arange(100) < 20, np.arange(100) < 60
    assert verdict.fallen(many, few) == "holds"
    assert verdict.fallen(few, many) == "fails"
    assert verdict.fallen(few, np.arange(100) < 21) == "holds"


def test_a_csv_takes_no_text_for_a_formula():
    assert "'=1+1" in report.as_csv(pd.DataFrame({"change": ["=1+1"]}))


def test_digits_as_a_folder(tmp_path):
    found = command.folder.load(sensitivity.write_digits(tmp_path / "digits"))
    assert (len(found.train) + len(found.test), found.side, found.channels, len(found.classes)) == (1797, 8, 1, 10)


def test_a_record_that_is_none_is_not_written(tmp_path):
    whole = json.loads((ROOT / "results/sensitivity/digits/measured-00.json").read_text(encoding="utf-8"))
    study.write_json(tmp_path / "measured-00.json", whole)
    assert json.loads((tmp_path / "measured-00.json").read_text(encoding="utf-8")) == whole
    for broken in ({"x": 1}, {**whole, "log2_perturbable_volume": float("nan")}):
        with pytest.raises(ValueError):  # noqa: PT011 the one by its schema, the other by JSON
            study.write_json(tmp_path / "measured-00.json", broken)
        assert json.loads((tmp_path / "measured-00.json").read_text(encoding="utf-8")) == whole


@pytest.fixture
def kept(tmp_path) -> Path:
    """A copy of the committed study."""
    return Path(shutil.copytree(ROOT / "results" / "sensitivity" / "digits", tmp_path / "digits"))


def test_what_a_killed_study_left_goes(kept):
    before = {path.name for path in kept.iterdir()}
    for name in (".training-00-seed0.json.0a1b", ".data.safetensors.123", "training-00-seed0.checkpoint.safetensors"):
        (kept / name).write_bytes(b"half of it")
    (kept / "training-00-seed1.json").unlink()
    (kept / "training-00-seed1.checkpoint.safetensors").write_bytes(b"to go on from")
    study.clear(kept, study.read(kept)["plan"])
    after = {path.name for path in kept.iterdir()}
    assert before - after == {"training-00-seed1.json"}
    assert after - before == {"training-00-seed1.checkpoint.safetensors"}


def test_the_committed_study_is_one():
    found = study.read(ROOT / "results" / "sensitivity" / "digits")
    assert (len(found["training"]), len(found["strong"]), len(found["measured"])) == (24, 8, 8)


def test_the_committed_study_is_described_in_the_words_of_the_code(tmp_path):
    """The page shows the words of the plan, and no number of the study depends on them."""
    found = study.read(ROOT / "results" / "sensitivity" / "digits")["plan"]
    digits = command.folder.load(sensitivity.write_digits(tmp_path / "digits"))
    assert (digits.digest, digits.notes) == (found["digest"], found["notes"])
    assert plan.epsilon(digits.train.images) == (found["threat_model"]["eps"], found["eps_reason"])
    assert [change["does"] for change in found["changes"]] == [
        changes.parse(change["name"]).does for change in found["changes"]
    ]


DAMAGED = {
    "plan.json": [
        ("digest", "x"), ("classes", ["one"]), ("changes", []), ("seeds", 0), ("strong", {}), ("test_size", -1), ("code", "1"),
        ("eps_curve", [2.0]), ("folder", "a\nb"), ("folder", "a\u202eb"), ("test_size", 10), ("minutes", 1e999),
    ],
    "training-03-seed0.json": [
        ("change", "original"), ("seed", 1), ("half", True), ("n", 0), ("n", 10), ("outcomes", {}), ("outcomes", None),
        ("outcomes", {"clean": "AAAA", "robust": "AAAA"}), ("training_accuracy", 2.5), ("steps", "1"),
        ("seconds", float("nan")),
    ],
    "strong-00.json": [("curve", {"0.03": 0.5}), ("curve", {"1": 1.5}), ("suite", None), ("n", 100), ("examples", [{}])],
    "measured-00.json": [
        ("pictures", ['" onerror="alert(1)']), ("log2_perturbable_volume", None), ("inter_class_distance", -1),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value"), [(name, *case) for name, cases in DAMAGED.items() for case in cases])
def test_a_damaged_record_of_a_study_is_one_line(kept, name, field, value):
    record = json.loads((kept / name).read_text(encoding="utf-8"))
    (kept / name).write_text(json.dumps({**record, field: value}))
    with pytest.raises(records.RecordError) as refused:
        study.read(kept)
    assert "is not a valid record (" in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": NaN}', b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_what_is_no_json_of_a_study_is_one_line(kept, content):
    (kept / "strong-00.json").write_bytes(content)
    with pytest.raises(records.RecordError, match=r"strong-00.json is not a valid record \(.*\); restore it, or delete it"):
        study.read(kept)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_text_of_a_study_is_markup_in_the_book(kept, kind):
    """In every field of words; a text that no printer shows is refused."""
    text = PAYLOADS[kind][:1000]
    plan_ = json.loads((kept / "plan.json").read_text(encoding="utf-8"))
    plan_ |= {"folder": text, "notes": [text], "classes": [text, *plan_["classes"][1:]], "eps_reason": text}
    plan_["changes"][3]["name"], plan_["model"]["reason"] = text, text
    (kept / "plan.json").write_text(json.dumps(plan_))
    for file in kept.glob("*-03*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "change": text}))
    for file in kept.glob("strong-*.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        record["suite"]["name"] = record["examples"][0]["label"] = record["examples"][0]["says"] = text
        file.write_text(json.dumps(record))
    if not text.isprintable():
        with pytest.raises(records.RecordError, match="a character that cannot be printed"):
            study.read(kept)
        return
    found = study.read(kept)
    pieces = ("judged", "decided", "pictures", "numbers", "explained", "strength")
    for shown in [report.html(found), *(getattr(sensitivity.page, name)(found).data for name in pieces)]:
        page = BeautifulSoup(shown, "html.parser")
        assert not page.find_all(["script", "b", "a", "iframe", "object"])
        assert not [tag for tag in page.find_all() if any(name.startswith("on") for name in tag.attrs)]
        assert all(tag["src"].startswith("data:image/") for tag in page.find_all("img"))
    assert text in BeautifulSoup(sensitivity.page.decided(found).data, "html.parser").get_text()
    assert not re.search(r"(^|,)\"?[=+@]", report.as_csv(verdict.numbers(found)), re.MULTILINE)
