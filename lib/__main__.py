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

from lib import data
from lib.base import checkpoints, files
from lib.run import checking, cost, devices, processes
from lib.store import grid, plans, records

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)
_UsageError = typer.BadParameter.__base__  # typer has no name of its own for it
_KEY = "mnist/smooth-3/lenet5-w0.25/pgd/n60000/default/seed0"
Scale = Annotated[str, typer.Option(help="paper, laptop or smoke.")]
# Each is one line, with what was given and what would help.
USERS_ERRORS = (
    ValueError, OSError, ArithmeticError, MemoryError,
    data.DataError, records.RecordError, checkpoints.CheckpointError, processes.WorkerDiedError,
)  # fmt: skip
Names = Annotated[list[str] | None, typer.Argument(help="Names of exhibits, such as table-2, or keys; everything by default.")]


def command(*examples: str, name: str | None = None) -> Callable:
    """Declare a command of the command line; its help ends with `examples`, the arguments as one types them."""

    def declare(function: Callable) -> Callable:
        invocation = f"python -m lib {name or function.__name__}"
        lines = "".join(f"\n  {invocation} {example}".rstrip() for example in examples)
        return app.command(name, epilog=f"\b\nExamples:{lines}")(function)

    return declare


@app.callback()
def _check_environment() -> None:
    grid.cifar10_set()
    folder = files.checkpoints()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"cannot write checkpoints to {folder}: it is a file; CHECKPOINT_DIR must be a folder")


def _items(names: list[str] | None, scale: str) -> dict[grid.Item, list[str]]:
    """The runs and measurements that exhibits or keys name, each once, with the names of the records wanted of it.

    An exhibit wants the records that it shows, a key wants all.
    """
    if not names:
        return {item: plans.of(item).records() for item in grid.all_runs(scale)}
    record_names: dict[grid.Item, list[str]] = {}
    for name in names:
        items, exhibit = ([grid.parse(name, scale)], None) if "/" in name else (grid.runs(name, scale), name)
        for item in items:
            record_names[item] = list(dict.fromkeys([*record_names.get(item, []), *plans.of(item).records(exhibit)]))
    return record_names


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
        # A run that lacks only what was not requested stays as it is; one that is computed lacks nothing afterwards.
        incomplete = [item for item, names in _items(keys, scale).items() if {*names} & {*records.missing(item)}]
        count = processes.complete(incomplete, device, jobs=jobs)
    except KeyboardInterrupt:  # typer would exit without a message
        typer.echo("interrupted; the records are kept, and training continues from its checkpoint", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{count} computed, the others were already recorded")


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
    comparison = checking.check(grid.parse(key, scale), evaluation or "", images)
    typer.echo(comparison)
    if not comparison.found:
        raise typer.Exit(1)


@command("", "table-2 --scale paper", _KEY)
def status(
    names: Names = None, scale: Annotated[str | None, typer.Option(help="paper, laptop or smoke; laptop by default.")] = None
) -> None:
    """Show which records exist, are stale or are missing; for the whole grid, the scorecard's totals as well.

    With --scale the totals are those of that scale. Without it they are the book's, which takes each exhibit at the best scale
    that is computed.
    """
    grid_scale = scale or "laptop"
    counts = dict.fromkeys(("recorded", "stale", "failed", "missing", "left"), 0)
    items = _items(names, grid_scale)
    if grid_scale != "smoke" and any(item.dataset in grid.CIFAR10_SETS for item in items):
        setting = os.environ.get("CIFAR10")
        reason = f"CIFAR10={setting}" if setting else "CIFAR10 is not set in the environment"
        typer.echo(f"CIFAR10 means the data set {grid.cifar10_set()} ({reason}); allowed: {', '.join(grid.CIFAR10_SETS)}")
    if os.environ.get("RESULTS_DIR"):
        absent = "" if records.folder().is_dir() else ", which does not exist"
        typer.echo(f"records are read from RESULTS_DIR={records.folder()}{absent}", err=True)
    stretches = [] if names else [item for item in grid.all_runs(grid_scale, stretches=True) if item not in items]
    for item, record_names in {**items, **{item: plans.of(item).records() for item in stretches}}.items():
        states = {name: records.status(item, name) for name in record_names}
        for state in states.values():
            counts["left" if state == "missing" and item in stretches else state] += 1
        typer.echo(f"{item.key}: {', '.join(f'{name} {state}' for name, state in states.items())}")
    if left := counts.pop("left"):
        typer.echo(f"{left} missing, not counted below: these runs start only when you name them")
    if not names:
        for cifar10, number in _records_of_other_sets(grid_scale).items():
            typer.echo(f"{cifar10}: {number} recorded, not counted below; set CIFAR10={cifar10} to list them")
    typer.echo(f"{grid_scale}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if not names:
        typer.echo(_summary(scale) if scale else _state())


def _records_of_other_sets(scale: str) -> dict[str, int]:
    """The number of records of each CIFAR10 set that is not chosen; sets without records are left out."""
    counts: dict[str, int] = {}
    for cifar10 in set(grid.CIFAR10_SETS) - {grid.cifar10_set()}:
        for item in grid.all_runs(scale, cifar10=cifar10, stretches=True):
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
    chosen_device = devices.device(device)
    exhibits = [name for name in grid.exhibits() if scale in grid.exhibit(name)["scales"]]
    items_of = {name: _items([name], scale) for name in names or []}
    items_of = items_of or {name: grid.runs(name, scale, stretches=False) for name in exhibits}
    table = cost.table(
        {name: items for name, items in items_of.items() if items}, chosen_device, tflops * 1e12 if tflops else None
    )
    throughput = (
        f"{tflops:g}·10¹² operations a second, as given"
        if tflops
        else f"the throughput measured just now on {records.device_name(chosen_device)} (lower if the machine is busy)"
    )
    typer.echo(f"scale {scale}, at {throughput}")
    for column in table.columns[-2:]:  # hours; two digits, since they are estimates
        table[column] = [f"{float(f'{hours:.2g}'):,.12g}" for hours in table[column]]
    typer.echo(
        table.to_markdown(index=False, floatfmt=("", ".0f", ".2e"), disable_numparse=[3, 4], colalign=("left", *["right"] * 4))
    )


@command("", "table-2", name="weights")
def weights_(names: Names = None, scale: Scale = "laptop") -> None:
    """Keep the weights of narrow networks that were trained here beside their records; `run` does this itself."""
    runs = [run for run in _items(names, scale) if isinstance(run, grid.Run) and checking.keep_weights(run)]
    for run in runs:
        typer.echo(run.key)
    typer.echo(f"{scale}: {len(runs)} written; the others were kept before, are too wide to keep, or were not trained here")


@command("book/_build/html book/first-page.png", name="picture")
def picture_(
    html: Annotated[Path, typer.Argument(help="The folder of the built book, such as book/_build/html.")],
    file: Annotated[Path, typer.Argument(help="A .png file; the picture in the dark theme goes beside it.")],
) -> None:
    """Take the README's picture: the top of the built book's first page, in the light and in the dark theme."""
    from lib.book import picture

    for picture_file in picture.write(html, file):
        typer.echo(picture_file)


def _state() -> str:
    """The README's state of the reproduction: the book's totals, and the results at the paper's own settings."""
    from lib import report

    page = report.page()
    sentences = [page.make(name) for name in ("answer-own", "own-settings-attacked")]
    return "\n\n".join([_summary("auto"), *sentences])


@command("README.md")
def state(file: Annotated[Path, typer.Argument(help="A text with a line <!-- state --> and a line <!-- /state -->.")]) -> None:
    """Write the totals that `status` prints last into a text file such as README.md, between its two state lines."""
    text = file.read_text(encoding="utf-8")
    before, opening, rest = text.partition("<!-- state -->\n")
    _, closing, after = rest.partition("<!-- /state -->")
    if not opening or not closing:
        raise ValueError(f"{file} needs a line <!-- state --> and a later line <!-- /state -->; the text goes between them")
    file.write_text(f"{before}{opening}{_state()}\n{closing}{after}", encoding="utf-8")


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
    minutes: Annotated[
        float, typer.Option(help="How long it may take on this machine; sets the steps, at most 60 passes over the images.")
    ] = 20.0,
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
    jobs: Annotated[int | None, typer.Option(help="Trainings at a time, at most one per processor or 2.")] = None,
) -> None:
    """Measure how far robust accuracy moves when your own images change a little, and write a report in HTML and CSV."""
    from lib import sensitivity  # imports of a second, for this command alone

    reading = {"size": size, "colour": colour, "skip": skip_unreadable}
    if list_changes:
        page, descriptions = sensitivity.list_changes(folder, change, out=out, **reading)
        for name, text in descriptions.items():
            typer.echo(f"{name:18} {text}")
        typer.echo(page)
        return
    try:
        sensitivity.examine(
            folder, change, out=out, margin=margin, device=device, say=typer.echo, **reading, minutes=minutes, eps=eps,
            seeds=seeds, model=model, widen_factor=widen_factor, fixed=fixed, steps=steps, batch_size=batch_size, lr=lr,
            attack_steps=attack_steps, jobs=jobs,
        )  # fmt: skip
    except KeyboardInterrupt:  # typer would exit without a message
        typer.echo("interrupted; the records are kept, and the same command continues the study", err=True)
        raise typer.Exit(130) from None


def _usage(error: _UsageError) -> str:
    """What is wrong with a call, in one line, and where its help is."""
    said = error.format_message().rstrip(".")
    commands = getattr(error.ctx.command, "commands", None) if error.ctx else None
    if commands and said.startswith("No such command"):
        return f"{said}; allowed: {', '.join(commands)}"
    return f"{said}; see {error.ctx.command_path} --help" if error.ctx else said


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python ignores what is raised while it frees an object. An interrupt that arrives then is raised again, later."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)


def main() -> None:
    """Every error a user can cause is one line, and exit status 1; of a call that cannot be read, 2."""
    if getattr(signal.getsignal(signal.SIGINT), "while_importing", False):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        sys.unraisablehook = _interrupt_again
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except _UsageError as error:
        typer.echo(f"error: {_usage(error)}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before a command was read
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except USERS_ERRORS as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
