"""Runs a whole study, from a folder of images to its report, for the command line and the notebook."""

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock
import numpy as np
from PIL import Image

from lib import files
from lib.run import devices
from lib.sensitivity import changes, folder, plan, report, study, verdict
from lib.store import records


def write_digits(target: Path | str) -> Path:
    """scikit-learn's 1797 handwritten digits, 8×8 pixels, as a folder of PNGs: `target/CLASS/NUMBER.png`."""
    from sklearn.datasets import load_digits  # a slow import, for this alone

    found = load_digits()
    for number, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
        place = Path(target) / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(place / f"{number:04}.png")
    return Path(target)


def names(given: Iterable[str] | str | None) -> tuple[str, ...]:
    """The changes that are asked for: a list, or a text such as `[gamma-0.6, jpeg-30]`; none for `default` or nothing."""
    if given is None or given == "default":
        return ()
    parts = given.strip().removeprefix("[").removesuffix("]").split(",") if isinstance(given, str) else list(given)
    return tuple(part.strip().strip("'\"") for part in parts if part.strip())


def _place(source: Path | str, out: Path | str | None) -> Path:
    """Where the report goes: a folder that can be written and does not lie in the images'."""
    place = Path(out) if out else Path(f"sensitivity-{Path(source).resolve().name}")
    if place.resolve().is_relative_to(Path(source).resolve()):
        raise ValueError(f"--out {place} lies in the folder of images; its files would be taken for a class: give another")
    trial = place / ".trial"
    try:
        place.mkdir(parents=True, exist_ok=True)
        trial.write_text("", encoding="utf-8")
        trial.unlink(missing_ok=True)  # another study may have the same place
    except OSError as error:
        raise OSError(f"cannot write to --out {place}: {error.strerror}; give a folder that can be written") from None
    return place


def list_changes(
    source: Path | str, given: Iterable[str] | str | None = None, *, out: Path | str | None = None, **reading: object
) -> tuple[Path, dict[str, str]]:
    """A page with a picture of every change on the folder's images, and what each does by name."""
    place = _place(source, out)
    asked = [changes.parse(name) for name in names(given)]
    return report.contact_sheet(folder.load(source, **reading), asked, place)


def examine(
    source: Path | str,
    changes_: Iterable[str] | str | None = None,
    *,
    out: Path | str | None = None,
    size: int | None = None,
    colour: str = "auto",
    skip: bool = False,
    margin: float = verdict.MARGIN,
    device: str = "auto",
    say: Callable[[str], object] = print,
    **options: object,
) -> dict:
    """The study of a folder of images: planned, computed where it is not recorded yet, and reported. Returns its records.

    `options`: the fields of `plan.Options`. `out`: where `report.html`, `numbers.csv` and `work/` go; by default
    `sensitivity-FOLDER` in the current folder. The same call after a kill goes on where it was.
    Raises ValueError or OSError, of one line, for what cannot be studied.
    """
    asked = plan.Options(changes=names(changes_), **options)
    asked.check()
    if not 0 < margin <= 100:
        raise ValueError(f"--margin must be in (0, 100] points, given {margin:g}")
    for name in asked.changes:
        changes.parse(name)  # before anything is read
    if asked.model and ".py:" in asked.model:
        changes.load_function(asked.model, "--model")
    on = devices.device(device)
    place = _place(source, out)
    images = folder.load(source, size, colour=colour, skip=skip)
    chosen = changes.chosen(list(asked.changes), images.channels)
    work = study.place(place, images, chosen, asked)
    work.mkdir(parents=True, exist_ok=True)
    try:
        with files.locked(work / "lock", timeout=1):
            if (work / "plan.json").exists() and (work / "data.safetensors").exists():
                drawn = study.read_json(work / "plan.json")
                say(f"{len(study.missing(work, drawn))} of {len(study.names(drawn))} records are missing; the others are kept")
            else:
                drawn = plan.draw(images, chosen, asked, on)
                study.prepare(work, images, drawn)
            study.clear(work, drawn)
            say(plan.in_words(drawn))
            if study.missing(work, drawn):
                study.run(work, str(on))
    except filelock.Timeout:
        raise ValueError(f"another process is at work on this study in {place}; wait for it, or give another --out") from None
    found = study.read(work)
    page, table = report.write(found, place, margin, command_line(source, asked, out, size, colour, margin))
    say(f"{verdict.judge(found, margin).sentence}\n{page}\n{table}")
    return found


def command_line(source, asked: plan.Options, out, size: int | None, colour: str, margin: float) -> str:
    """The command that repeats a study."""
    words = ["python", "-m", "lib", "sensitivity", str(source)]
    for name in asked.changes:
        words += ["--change", name]
    for name, value in vars(asked).items():
        if name not in ("changes", "jobs") and value != getattr(plan.Options(), name):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    usual = {"out": None, "size": None, "colour": "auto", "margin": verdict.MARGIN}
    for name, value in {"out": out, "size": size, "colour": colour, "margin": margin}.items():
        if value != usual[name]:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def recorded(name: str) -> dict | None:
    """The committed records of a study, `results/sensitivity/NAME`; None where there are none."""
    place = records.folder() / "sensitivity" / name
    return study.read(place) if (place / "plan.json").exists() else None
