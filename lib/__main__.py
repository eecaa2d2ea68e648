"""The command line: `python -m lib list | run | check | status | cost | weights | picture | state | pdf | sensitivity`."""

import logging
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lib import checkpoints, data, files
from lib.run import checking, cost, devices, processes
from lib.store import grid, plans, records

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None, help=__doc__
)
_KEY = "mnist/smooth-3/lenet5-w0.25/pgd/n60000/default/seed0"
Scale = Annotated[str, typer.Option(help="paper, laptop or smoke.")]
# Each is one line, with what was given and what would help.
USERS_ERRORS = (
    ValueError, OSError, ArithmeticError, MemoryError,
    data.DataError, records.RecordError, checkpoints.CheckpointError, processes.WorkerDiedError,
)  # fmt: skip
Names = Annotated[list[str] | None, typer.Argument(help="Names of exhibits, such as table-2, or keys; everything by default.")]


def command(*examples: str, name: str | None = None) -> Callable:
    """A command of the command line, whose help ends with examples: its arguments, as one types them."""

    def declare(function: Callable) -> Callable:
        called = f"python -m lib {name or function.__name__}"
        lines = "".join(f"\n  {called} {example}".rstrip() for example in examples)
        return app.command(name, epilog=f"\b\nExamples:{lines}")(function)

    return declare


@app.callback()
def _checked() -> None:
    grid.cifar10_set()
    checkpoints = files.checkpoints()
    if checkpoints.exists() and not checkpoints.is_dir():
        raise ValueError(f"cannot write checkpoints to {checkpoints}: it is a file; CHECKPOINT_DIR must be a folder")


def _items(names: list[str] | None, scale: str) -> dict[grid.Item, list[str]]:
    """The runs and measurements that exhibits or keys name, each once, and the records of it that are asked for.

    An exhibit asks for what it shows, a key for everything.
    """
    if not names:
        return {item: plans.of(item).records() for item in grid.all_runs(scale)}
    found: dict[grid.Item, list[str]] = {}
    for name in names:
        listed, exhibit = ([grid.parse(name, scale)], None) if "/" in name else (grid.runs(name, scale), name)
        for item in listed:
            found[item] = list(dict.fromkeys([*found.get(item, []), *plans.of(item).records(exhibit)]))
    return found


@command("", "table-2 table-3", "table-2 --scale paper", _KEY, name="list")
def list_(names: Names = None, scale: Scale = "laptop") -> None:
    """List the keys of the grid's runs and measurements, one a line."""
    for item in _items(names, scale):
        typer.echo(item.key)


@command("table-2 --scale smoke", f"{_KEY} --scale laptop", "--scale paper --device cuda --jobs 4")
def run(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys, or names of exhibits; everything by default.")] = None,
    scale: Scale = "laptop",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    jobs: Annotated[int, typer.Option(help="Runs side by side, sharing the processor's threads.")] = 1,
) -> None:
    """Train, measure, evaluate and record. Recorded results are skipped; an interrupted training continues."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        # A run that lacks only what was not asked for stays as it is; one that is computed lacks nothing afterwards.
        lacking = [item for item, names in _items(keys, scale).items() if {*names} & {*records.missing(item)}]
        computed = processes.complete(lacking, device, jobs=jobs)
    except KeyboardInterrupt:  # typer would leave without a word
        typer.echo("interrupted; the records are kept, and training continues from its checkpoint", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{computed} computed, the others were already recorded")


@command(_KEY, f"{_KEY} --images 300", f"{_KEY.replace('smooth-3', 'smooth-8')} --evaluation autoattack")
def check(
    key: Annotated[str, typer.Argument(help="The key of a run or measurement; list prints them.")],
    scale: Scale = "laptop",
    evaluation: Annotated[str | None, typer.Option(help="Which record to check; the first evaluation if left out.")] = None,
    images: Annotated[int | None, typer.Option(help="How many test images; about 5 seconds' worth if left out.")] = None,
) -> None:
    """Attack the kept weights of a run again, and say whether this gives the recorded number.

    The evaluation has the record's settings and takes its first test images; outcomes are compared image by image.
    Measurements are computed again. The exit status is 0 if the numbers agree, 1 if they differ. It takes less than a minute
    on one core.
    """
    found = checking.check(grid.parse(key, scale), evaluation or "", images)
    typer.echo(found)
    if not found.found:
        raise typer.Exit(1)


@command("", "table-2 --scale paper", _KEY)
def status(
    names: Names = None, scale: Annotated[str | None, typer.Option(help="paper, laptop or smoke; laptop by default.")] = None
) -> None:
    """Show which records exist, are stale or are missing; for the whole grid, the scorecard's totals as well.

    With --scale the totals are those of that scale. Without it they are the book's, which takes each exhibit at the best scale
    that is computed.
    """
    listed = scale or "laptop"
    counts = dict.fromkeys(("recorded", "stale", "failed", "missing", "left"), 0)
    items = _items(names, listed)
    if listed != "smoke" and any(item.dataset in grid.CIFAR10_SETS for item in items):
        asked_for = os.environ.get("CIFAR10")
        why = f"CIFAR10={asked_for}" if asked_for else "CIFAR10 is not set in the environment"
        typer.echo(f"CIFAR10 means the data set {grid.cifar10_set()} ({why}); allowed: {', '.join(grid.CIFAR10_SETS)}")
    beyond = [] if names else [item for item in grid.all_runs(listed, stretches=True) if item not in items]
    for item, asked in {**items, **{item: plans.of(item).records() for item in beyond}}.items():
        found = {name: records.status(item, name) for name in asked}
        for state in found.values():
            counts["left" if state == "missing" and item in beyond else state] += 1
        typer.echo(f"{item.key}: {', '.join(f'{name} {state}' for name, state in found.items())}")
    if left := counts.pop("left"):
        typer.echo(f"{left} missing, not counted below: these runs start only when you name them")
    if not names:
        for cifar10, number in _recorded_of_other_sets(listed).items():
            typer.echo(f"{cifar10}: {number} recorded, not counted below; set CIFAR10={cifar10} to list them")
    typer.echo(f"{listed}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if not names:
        typer.echo(_summary(scale) if scale else _state())


def _recorded_of_other_sets(scale: str) -> dict[str, int]:
    """Of each CIFAR10 set but the one asked for, how many records there are, where there are any."""
    counts: dict[str, int] = {}
    for cifar10 in set(grid.CIFAR10_SETS) - {grid.cifar10_set()}:
        for item in grid.all_runs(scale, cifar10=cifar10):
            if item.dataset == cifar10:
                recorded = sum(records.status(item, name) == "recorded" for name in plans.of(item).records())
                counts[cifar10] = counts.get(cifar10, 0) + recorded
    return {cifar10: number for cifar10, number in counts.items() if number}


def _summary(scale: str) -> str:
    """The scorecard's totals."""
    from lib.report import claims, scorecard  # half a second of imports, for what is said of the whole grid
    from lib.report.claims.marks import marks

    verdicts = claims.verdicts("", claims.recorded(scale))
    return scorecard.summary(scorecard.like_with_like(scale), scorecard.numbers(scale), marks(scale), verdicts)


@command("", "table-2 table-3 --scale laptop", "--scale paper --tflops 60", name="cost")
def cost_(
    names: Names = None,
    scale: Scale = "paper",
    tflops: Annotated[
        float | None, typer.Option(help="Throughput in 10^12 operations a second; measured here by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to measure: auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Estimate operations and hours of each exhibit and of the grid, with attacks in float32 and in bfloat16.

    A run that several exhibits share counts once.
    """
    grid.check_scale(scale)
    if tflops is not None and not 0 < tflops < math.inf:
        raise ValueError(f"--tflops must be > 0 and finite, given {tflops:g}")
    where = devices.device(device)
    declared = [name for name in grid.exhibits() if scale in grid.exhibit(name)["scales"]]
    listed = {name: _items([name], scale) for name in names or []}
    listed = listed or {name: grid.runs(name, scale, stretches=False) for name in declared}
    table = cost.table({name: items for name, items in listed.items() if items}, where, tflops * 1e12 if tflops else None)
    said = (
        f"{tflops:g}·10¹² operations a second, as given"
        if tflops
        else f"the throughput measured just now on {records.device_name(where)} (lower if the machine is busy)"
    )
    typer.echo(f"scale {scale}, at {said}")
    typer.echo(table.to_markdown(index=False, floatfmt=("", ".0f", ".2e", ".2f", ".2f")))


@command("", "table-2", name="weights")
def weights_(names: Names = None, scale: Scale = "laptop") -> None:
    """Keep the weights of narrow networks that were trained here beside their records; `run` does this itself."""
    kept = [run for run in _items(names, scale) if isinstance(run, grid.Run) and checking.keep_weights(run)]
    for run in kept:
        typer.echo(run.key)
    typer.echo(f"{scale}: {len(kept)} written; the others were kept before, are too wide to keep, or were not trained here")


@command("book/_build/html book/first-page.png", name="picture")
def picture_(
    html: Annotated[Path, typer.Argument(help="The folder of the built book, such as book/_build/html.")],
    file: Annotated[Path, typer.Argument(help="A .png file; the picture in the dark theme goes beside it.")],
) -> None:
    """Take the README's picture: the top of the built book's first page, in the light and in the dark theme."""
    from lib.book import picture

    for written in picture.write(html, file):
        typer.echo(written)


def _state() -> str:
    """The README's state of the reproduction: the book's totals, and the results at the paper's own settings."""
    from lib import report

    page = report.page()
    own = [page.make(name) for name in ("answer-own", "own-settings-attacked")]
    return "\n\n".join([_summary("auto"), *own])


@command("README.md")
def state(file: Annotated[Path, typer.Argument(help="A text with a line <!-- state --> and a line <!-- /state -->.")]) -> None:
    """Write the totals that `status` prints last into a text file such as README.md, between its two state lines."""
    text = file.read_text(encoding="utf-8")
    before, found, rest = text.partition("<!-- state -->\n")
    _, closed, after = rest.partition("<!-- /state -->")
    if not found or not closed:
        raise ValueError(f"{file} needs a line <!-- state --> and a later line <!-- /state -->; the text goes between them")
    file.write_text(f"{before}{found}{_state()}\n{closed}{after}", encoding="utf-8")


@command("book/_build/html book.pdf", name="pdf")
def pdf_(
    html: Annotated[Path, typer.Argument(help="The folder of the built book, such as book/_build/html.")],
    file: Annotated[Path, typer.Argument(help="A .pdf file.")],
) -> None:
    """Print the built book as one PDF, with Chromium."""
    if file.suffix.lower() != ".pdf":
        raise ValueError(f"the file must end with .pdf, given {file}")
    if not (html / "index.html").is_file():
        raise ValueError(f"{html} is not a built book (it has no index.html); build it with `make book`")
    from lib.book import pdf

    pdf.write(html, file)


@command(
    "photos", "photos --list-changes", "photos --change gamma-0.6 --change mine.py:darker --minutes 60", "photos --eps 8/255",
    name="sensitivity",
)  # fmt: skip
def sensitivity_(
    folder: Annotated[Path, typer.Argument(help="Images: train/CLASS/* and test/CLASS/*, or CLASS/*, which is split.")],
    change: Annotated[
        list[str] | None, typer.Option(help="A change, such as gamma-0.6, or file.py:function; repeat the option for more.")
    ] = None,
    list_changes: Annotated[bool, typer.Option("--list-changes", help="Show every change on your images, and stop.")] = False,
    minutes: Annotated[float, typer.Option(help="How long it may take on this machine; sets the number of steps.")] = 20.0,
    eps: Annotated[
        str | None,
        typer.Option(help="The largest change of a pixel in [0, 1], such as 8/255; chosen from the images if left out."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings for each change; if left out 2, or 3 with at least 60 minutes.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="lenet5, wide_resnet28 or file.py:factory; chosen from the images if left out.")
    ] = None,
    widen_factor: Annotated[float, typer.Option(help="Widen factor, the relative width, of lenet5 or wide_resnet28.")] = 0.25,
    fixed: Annotated[
        bool,
        typer.Option("--fixed", help="Also attack one network with each change in front of it."),
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Steps of each training; chosen from --minutes if left out.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in each step; chosen if left out.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; chosen for the network if left out.")] = None,
    attack_steps: Annotated[int | None, typer.Option(help="Steps of the reported attack; 20 if left out.")] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Height and width in pixels, a multiple of 4 from 8 to 64; chosen from the files if left out."),
    ] = None,
    colour: Annotated[str, typer.Option(help="auto, or grey or rgb to convert all images.")] = "auto",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out files that cannot be read, and name them in the report.")
    ] = False,
    margin: Annotated[float, typer.Option(help="Data are sensitive if robust accuracy surely moves by more points.")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; sensitivity-FOLDER if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Trainings at a time; one per processor if left out.")] = None,
) -> None:
    """Measure how far robust accuracy moves when your own images change a little, and write a report in HTML and CSV."""
    from lib import sensitivity  # imports of a second, for this command alone

    reading = {"size": size, "colour": colour, "skip": skip_unreadable}
    if list_changes:
        page, does = sensitivity.list_changes(folder, change, out=out, **reading)
        for name, text in does.items():
            typer.echo(f"{name:18} {text}")
        typer.echo(page)
        return
    try:
        sensitivity.examine(
            folder, change, out=out, margin=margin, device=device, say=typer.echo, **reading, minutes=minutes, eps=eps,
            seeds=seeds, model=model, widen_factor=widen_factor, fixed=fixed, steps=steps, batch_size=batch_size, lr=lr,
            attack_steps=attack_steps, jobs=jobs,
        )  # fmt: skip
    except KeyboardInterrupt:  # typer would leave without a word
        typer.echo("interrupted; the records are kept, and the same command continues the study", err=True)
        raise typer.Exit(130) from None


def main() -> None:
    """Every error a user can cause is one line, and exit status 1."""
    if getattr(signal.getsignal(signal.SIGINT), "while_importing", False):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except KeyboardInterrupt:  # before a command was there to say more
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except USERS_ERRORS as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
