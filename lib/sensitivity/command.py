"""Runs a whole study, from a folder of images to its report, for the command line and the notebook."""

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock
import numpy as np
from PIL import Image

from lib.base import files
from lib.report.words import counted
from lib.run import devices
from lib.sensitivity import folder, plan, report, study, verdict
from lib.sensitivity.changes import ORIGINAL, load_function, parse, select
from lib.store import records

# Options of the command that are not among the settings of a plan.
_DEFAULTS = {"out": None, "size": None, "colour": "auto", "skip_unreadable": False, "margin": verdict.MARGIN, "device": "auto"}


def write_digits(target: Path | str) -> Path:
    """Write scikit-learn's 1797 handwritten digits, 8×8 pixels, as PNG files: `target/CLASS/NUMBER.png`."""
    from sklearn.datasets import load_digits  # a slow import, only needed here

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder_of_class = Path(target) / str(label)
        folder_of_class.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(folder_of_class / f"{number:04}.png")
    return Path(target)


def names(given: Iterable[str] | str | None) -> tuple[str, ...]:
    """The names of changes in a list, or in a text such as `[gamma-0.6, jpeg-30]`; none for `default` or nothing."""
    if given is None or given == "default":
        return ()
    parts = given.strip().removeprefix("[").removesuffix("]").split(",") if isinstance(given, str) else list(given)
    if not isinstance(given, str) and not all(part.strip() for part in parts):
        raise ValueError("a name of a change is empty; give a name such as gamma-0.6, or leave the option out")
    return tuple(part.strip().strip("'\"") for part in parts if part.strip())


def _output_folder(source: Path | str, out: Path | str | None) -> Path:
    """The folder of the report. ValueError if it is inside the folder of images."""
    folder_out = Path(out) if out else Path(f"sensitivity-{Path(source).resolve().name}")
    if folder_out.resolve().is_relative_to(Path(source).resolve()):
        raise ValueError(f"--out {folder_out} is inside the folder of images and would be read as a class; give another")
    return folder_out


def _make(folder_out: Path) -> None:
    """Make the folder of the report, once the images are read: their name may be wrong. OSError if it cannot be written to."""
    trial = folder_out / ".trial"
    try:
        folder_out.mkdir(parents=True, exist_ok=True)
        trial.write_text("", encoding="utf-8")
        trial.unlink(missing_ok=True)  # another study may use the same folder
    except OSError as error:
        raise OSError(f"cannot write to --out {folder_out}: {error.strerror}; give a folder that you can write to") from None


def list_changes(
    source: Path | str, given: Iterable[str] | str | None = None, *, out: Path | str | None = None, **reading: object
) -> tuple[Path, dict[str, str]]:
    """Write a page that shows every change on the folder's images. Return its path, and by name what each change does."""
    folder_out, parsed = _output_folder(source, out), [parse(name) for name in names(given)]
    images = folder.load(source, **reading)
    _make(folder_out)
    return report.contact_sheet(images, parsed, folder_out)


def examine(
    source: Path | str,
    changes: Iterable[str] | str | None = None,
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
    """Plan the study of a folder of images, compute its missing records and write its report. Return the records.

    `options`: the fields of `plan.Options`. `out`: the folder for `report.html`, `numbers.csv` and `work/`, by default
    `sensitivity-FOLDER` in the current folder; a copy of the two files lies in `work/STUDY/`, where another study with the same
    `out` leaves it. After a kill, the same call continues the study.
    Raises ValueError or OSError, of one line, if the folder or an option is wrong.
    """
    settings = plan.Options(changes=names(changes), **options)
    settings.check()
    if not 0 < margin <= 100:
        raise ValueError(f"--margin must be in (0, 100] points, given {margin:g}")
    for name in settings.changes:
        parse(name)  # a wrong name raises before the images are read
    if settings.changes and not {*settings.changes} - {ORIGINAL}:
        raise ValueError(f"at least one change besides {ORIGINAL!r} is needed; leave the option out for the usual ones")
    if settings.model and ".py:" in settings.model:
        load_function(settings.model, "--model")
    torch_device = devices.device(device)
    folder_out = _output_folder(source, out)
    images = folder.load(source, size, colour=colour, skip=skip)
    _make(folder_out)
    selected = select(list(settings.changes), images.channels)
    work = study.place(folder_out, images, selected, settings)
    work.mkdir(parents=True, exist_ok=True)
    try:
        with files.locked(work / "lock", timeout=1):
            if (work / "plan.json").exists() and (work / "data.safetensors").exists():
                plan_ = study.read_json(work / "plan.json")
                missing, every = len(study.missing(work, plan_)), len(study.names(plan_))
                say(f"{missing} of {every} records are missing; the others are reused")
            else:
                plan_ = plan.make(images, selected, settings, torch_device)
                study.prepare(work, images, plan_)
            study.clear(work, plan_)
            say(plan.in_words(plan_))
            if study.missing(work, plan_):
                study.run(work, str(torch_device))
    except filelock.Timeout:
        message = f"another process works on this study in {folder_out}; wait for it, or give another --out"
        raise ValueError(message) from None
    records_ = study.read(work)
    about = {"out": out, "size": size, "colour": colour, "skip_unreadable": skip, "margin": margin, "device": device}
    page, table = report.write(records_, folder_out, margin, command_line(source, settings, about))
    for file in (page, table):  # the next study in this folder replaces the report, not this copy
        files.write_whole(work / file.name, file.read_bytes())
    say(f"{verdict.judge(records_, margin).sentence}\n{page}\n{table}")
    if earlier := [other.parent for other in work.parent.glob(f"*/{page.name}") if other.parent != work]:
        say(f"reports of {counted(len(earlier), 'other study', 'other studies')} with this --out are kept in {work.parent}")
    return records_


def command_line(source: Path | str, settings: plan.Options, about: dict[str, object]) -> str:
    """The command that repeats a study; `about` has the options that are not in the settings, by name."""
    words = ["python", "-m", "lib", "sensitivity", str(source)]
    for name in settings.changes:
        words += ["--change", name]
    defaults = {**vars(plan.Options()), **_DEFAULTS}
    for name, value in {**vars(settings), **about}.items():
        if name not in ("changes", "jobs") and value != defaults[name]:
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(words)


def recorded(name: str) -> dict | None:
    """The committed records of a study, `results/sensitivity/NAME`; None if there are none."""
    work = records.folder() / "sensitivity" / name
    return study.read(work) if (work / "plan.json").exists() else None
