"""Runs a study of a folder: trains, attacks and records a network for each change and seed. Records are kept.

Each record is a JSON file, written atomically, in the folder of the study. After a kill, the next call computes the
missing ones.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial, wraps
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lib import attacks, data, evaluation, geometry, training
from lib.base import checkpoints, files
from lib.fast import surroundings
from lib.run import devices
from lib.run.processes import WorkerDiedError, side_by_side
from lib.sensitivity import changes as changes_
from lib.sensitivity import plan as plan_
from lib.sensitivity.changes import Change, Preprocessed
from lib.sensitivity.folder import Folder
from lib.sensitivity.pictures import one_a_class, png
from lib.store import schema
from lib.store.records import RecordError, pack

STARTS, STEPS, QUERIES = 5, 100, 1000  # of the strongest attacks, where these are PGD and Square instead of AutoAttack


def write_json(path: Path, content: dict) -> None:
    """Write a record whole, or leave the file as it was. OSError, of one line, if it cannot be written.

    ValueError for a content that `read_json` would refuse.
    """
    schema.check_study(content, _kind(path))
    write_text(path, json.dumps(content, allow_nan=False, ensure_ascii=False, indent=1))


def _kind(path: Path) -> str:
    return path.stem.split("-")[0]


def read_json(path: Path) -> dict:
    """A record of a study. RecordError, of one line, if it is not valid."""
    try:
        record = schema.parsed(path.read_text(encoding="utf-8"))
        schema.check_study(record, _kind(path))
    except ValueError as error:
        what = f"{path} is not a valid record ({error}); restore it, or delete it and give the same command again"
        raise RecordError(schema.one_line(what)) from None
    return record


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all, and return its path. OSError, of one line, if it cannot be written."""
    try:
        files.write_whole(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}; the records are kept") from None
    return path


def place(out: Path, folder: Folder, changes: list[Change], options: plan_.Options) -> Path:
    """The folder of this study under `out`. Its name is a hash of the images, the changes and the other options."""
    model = options.model if options.model and ".py:" in options.model else None
    settings = {name: value for name, value in vars(options).items() if name not in ("jobs", "changes")}
    source = changes_.load_function(model, "--model")[1] if model else ""
    names_and_sources = [[change.name, change.source] for change in changes]
    text = json.dumps([folder.digest, names_and_sources, source, settings], sort_keys=True, default=str)
    return out / "work" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _seeded(method: Callable) -> Callable:
    """A method of `Worker`. What networks and changes draw from the global random states is the same at each call."""

    @wraps(method)
    def call(worker: "Worker", *arguments: object) -> object:
        with surroundings.numpy_seeded(0), surroundings.seeded(0, worker.device):
            return method(worker, *arguments)

    return call


class Worker:
    """What a job needs: the plan, the images, and the folder that its records go to."""

    def __init__(self, work: Path, device: str) -> None:
        self.work, self.device = work, devices.device(device)
        self.plan = read_json(work / "plan.json")
        tensors, _ = checkpoints.load_tensors(work / "data.safetensors", "cpu")
        self.train_images, self.train_labels = tensors["train_images"], tensors["train_labels"]
        self.test_images, self.test_labels = tensors["test_images"], tensors["test_labels"]
        self.changes = [changes_.parse(change["name"]) for change in self.plan["changes"]]
        for change, planned in zip(self.changes, self.plan["changes"], strict=True):
            plan_.check_unchanged(f"--change {change.name}", change.source, planned["source"])

    @_seeded
    def changed(self, change: int, images: Tensor) -> Tensor:
        """Images after the change, float32 on the device. They are changed in slices, since float64 takes much memory."""
        parts = [self.changes[change](part.float() / 255) for part in images.split(1000)]
        return torch.cat(parts).float().to(self.device)

    def test(self, change: int, size: int) -> tuple[Tensor, Tensor]:
        """A class-balanced part of the test set, the same images for every change, after the change."""
        return self._tested(change, data.balanced(self.test_labels, size))

    def test_for_suite(self, change: int) -> tuple[Tensor, Tensor]:
        """The images of the strong attacks, as `test` gives them, with those of the suite first: of all classes alike."""
        sizes = self.plan["strong"]
        subset, first = (data.balanced(self.test_labels, sizes[name]) for name in ("images", "suite_images"))
        return self._tested(change, torch.cat([first, subset[~torch.isin(subset, first)]]))

    def _tested(self, change: int, subset: Tensor) -> tuple[Tensor, Tensor]:
        return self.changed(change, self.test_images[subset]), self.test_labels[subset].to(self.device)

    def generator(self) -> torch.Generator:
        """A new generator, so that every attack begins with the same random starts."""
        return torch.Generator(self.device).manual_seed(0)

    def job(self, change: int, seed: int) -> None:
        """Compute all records of one change and seed that are missing."""
        train_x = None
        for half in (False, True) if seed == 0 else (False,):
            if not (self.work / training_name(change, seed, half)).exists():
                train_x = self.changed(change, self.train_images) if train_x is None else train_x
                self.train(change, seed, half, train_x)
        if seed == 0:
            for name, measure in ((f"strong-{change:02}.json", self.strong), (f"measured-{change:02}.json", self.measured)):
                if not (self.work / name).exists():
                    write_json(self.work / name, measure(change))

    @_seeded
    def train(self, change: int, seed: int, half: bool, x: Tensor) -> None:
        """Train, attack the test images and record; a training that fails is recorded as failed."""
        plan, target = self.plan, self.work / training_name(change, seed, half)
        model = plan_.build(plan, seed).to(self.device)
        steps = max(1, plan["training"]["steps"] // (2 if half else 1))
        checkpoint = target.with_suffix(".checkpoint.safetensors")
        record = {"change": plan["changes"][change]["name"], "seed": seed, "half": half, "steps": steps}
        try:
            trained = training.train(
                model, x, self.train_labels.to(self.device), **{**plan["training"], "steps": steps}, seed=seed,
                attack=plan["attack"], checkpoint=checkpoint, checkpoint_seconds=15.0, description=target.stem,
            )  # fmt: skip
        except training.TrainingFailedError as failure:
            write_json(target, {**record, "failed": failure.reason, "seconds": failure.seconds})
            checkpoint.unlink(missing_ok=True)
            return
        start = time.monotonic()
        test_x, test_y = self.test(change, plan["test_size"])
        result = evaluation.evaluate(model, test_x, test_y, plan_.threat_model(plan), generator=self.generator())
        if not half:
            checkpoints.save_tensors(self.weights(change, seed), model.state_dict(), {})
        outcomes = {"clean": pack(result.correct), "robust": pack(result.robust)}
        last = trained.curve["accuracy"][-5:]
        seconds = trained.seconds + time.monotonic() - start
        record |= {"n": len(test_y), "outcomes": outcomes, "seconds": seconds, "training_accuracy": sum(last) / len(last)}
        write_json(target, record)
        checkpoint.unlink(missing_ok=True)

    def weights(self, change: int, seed: int) -> Path:
        """The file of the final weights."""
        return self.work / f"weights-{change:02}-seed{seed}.safetensors"

    def model(self, change: int) -> nn.Module | None:
        """The trained network of the first seed; None if its training failed. OSError if only its weights are gone."""
        record = self.work / training_name(change, 0, half=False)
        if not self.weights(change, 0).exists():
            if "failed" in read_json(record):
                return None
            raise OSError(f"{self.weights(change, 0)} is gone; delete {record} as well, to have this network trained again")
        model = plan_.build(self.plan, 0)
        model.load_state_dict(checkpoints.load_tensors(self.weights(change, 0), "cpu")[0])
        return model.to(self.device).eval()

    @_seeded
    def strong(self, change: int) -> dict:
        """The record of stronger attacks, checks for masked gradients, robust accuracy against eps, and adversarial images."""
        start, plan, model = time.monotonic(), self.plan, self.model(change)
        record = {"change": plan["changes"][change]["name"]}
        if model is None:
            return {**record, "failed": "its training failed", "seconds": 0.0}
        x, y = self.test_for_suite(change)
        eps = plan["threat_model"]["eps"]

        def robust(**settings: object) -> Tensor:
            threat = plan_.threat_model(plan, **settings)
            craft = partial(attacks.pgd, model, generator=self.generator(), **threat.attack())
            return evaluation.survives(model, x, y, craft, eps=threat.eps)

        step = plan["threat_model"]["step_size"] / eps
        curve = {f"{at:.6g}": robust(eps=at, step_size=step * at).float().mean().item() for at in plan["eps_curve"]}
        outcomes = {
            "reference": robust(),
            "one_step": robust(num_steps=1, step_size=eps, random_start=False),
            "100_steps": robust(num_steps=100, step_size=eps / 10),
            "moved": evaluation.moved_by_pgd(model, x, y, plan_.threat_model(plan), generator=self.generator()),
        }
        suite_size = plan["strong"]["suite_images"]
        suite, name = self._suite(model, x[:suite_size], y[:suite_size], eps)
        return {
            **record, "n": len(y), "curve": curve, "outcomes": {key: pack(value) for key, value in outcomes.items()},
            "suite": {"name": name, "n": suite_size, "held": pack(suite)},
            "examples": self._examples(model, x, y), "seconds": time.monotonic() - start,
        }  # fmt: skip

    def _suite(self, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, str]:
        """Which images the strongest attacks do not fool, and their name; it depends on the number of classes and the time."""
        survives = partial(evaluation.survives, model, x, y, eps=eps, batch_size=len(x))
        if self.plan["strong"]["autoattack"]:
            return survives(partial(attacks.autoattack, model, eps=eps, seed=0)), "AutoAttack"
        keywords = {"eps": eps, "step_size": eps / 10, "num_steps": STEPS, "early_stop": True, "restarts": STARTS}
        pgd = partial(attacks.pgd, model, **keywords, generator=self.generator())
        name = f"PGD with {STARTS} random starts of {STEPS} steps each"
        if len(self.plan["classes"]) >= 4:
            return survives(pgd), f"{name} (AutoAttack needs more --minutes)"
        square = partial(attacks.square, model, eps=eps, queries=QUERIES, generator=self.generator())
        return survives(pgd) & survives(square), f"{name}, and Square (AutoAttack needs at least 4 classes)"

    def _examples(self, model: nn.Module, x: Tensor, y: Tensor) -> list[dict]:
        """Some images before and after the attack, with the predictions of the network."""
        subset = one_a_class(y.cpu())
        x, y = x[subset], y[subset]
        attacked = attacks.pgd(model, x, y, generator=self.generator(), **plan_.threat_model(self.plan).attack())
        with torch.no_grad():
            before, after = (model(images.contiguous()).softmax(1).cpu() for images in (x, attacked))
        names = self.plan["classes"]
        return [
            {
                "label": names[y[i]], "clean": png(x[i]), "attacked": png(attacked[i]),
                "says": names[before[i].argmax()], "sure": before[i].max().item(),
                "says_attacked": names[after[i].argmax()], "sure_attacked": after[i].max().item(),
            }
            for i in range(len(y))
        ]  # fmt: skip

    def measured(self, change: int) -> dict:
        """The record of what needs no network: perturbable volume and inter-class distance of test images, and pictures."""
        start = time.monotonic()
        x, y = (value.cpu() for value in self.test(change, min(len(self.test_labels), 1000)))
        volume = geometry.log2_perturbable_volume(x, self.plan["threat_model"]["eps"]).mean().item()
        has_two_classes = len(y.unique()) > 1
        return {
            "change": self.plan["changes"][change]["name"], "n": len(y), "log2_perturbable_volume": volume,
            "inter_class_distance": geometry.inter_class_distance(x, y) if has_two_classes else None,
            "pictures": [png(x[i]) for i in one_a_class(y)], "seconds": time.monotonic() - start,
        }  # fmt: skip

    @_seeded
    def fixed(self, change: int) -> dict:
        """The record of the network trained on unchanged images, with the change in front of it and attacked through it."""
        start, plan, model = time.monotonic(), self.plan, self.model(0)
        record = {"change": plan["changes"][change]["name"]}
        if model is None:
            return {**record, "failed": "the training on unchanged images failed", "seconds": 0.0}
        x, y = self.test(0, plan["strong"]["images"])
        network = Preprocessed(self.changes[change], model) if change else model
        result = evaluation.evaluate(network, x, y, plan_.threat_model(plan), generator=self.generator())
        outcomes = {"clean": pack(result.correct), "robust": pack(result.robust)}
        return {**record, "n": len(y), "outcomes": outcomes, "seconds": time.monotonic() - start}


def training_name(change: int, seed: int, half: bool) -> str:
    """The file of a training's record."""
    return f"training-{change:02}-seed{seed}{'-half' if half else ''}.json"


def names(plan: dict) -> dict[str, float]:
    """The files of the records of a whole study, and roughly the work of each, in trainings."""
    work = {}
    for change in range(len(plan["changes"])):
        for seed in range(plan["seeds"]):
            work[training_name(change, seed, False)] = 1.0
        work |= {training_name(change, 0, True): 0.6, f"strong-{change:02}.json": 0.4, f"measured-{change:02}.json": 0.05}
        if plan["fixed"]:
            work[f"fixed-{change:02}.json"] = 0.2
    return work


def missing(work: Path, plan: dict) -> list[str]:
    """The files of the records that a study lacks."""
    return [name for name in names(plan) if not (work / name).exists()]


def clear(work: Path, plan: dict) -> None:
    """Remove unfinished files of a killed process, and checkpoints of trainings that are recorded.

    No other process may work on the study.
    """
    recorded = [work / name for name in names(plan) if (work / name).exists()]
    for leftover in [*work.glob(".*"), *(file.with_suffix(".checkpoint.safetensors") for file in recorded)]:
        leftover.unlink(missing_ok=True)


_WORKERS: dict[str, Worker] = {}


def _job(work: str, device: str, task: tuple[str, int, int]) -> None:
    if work not in _WORKERS:
        _WORKERS.clear()
        _WORKERS[work] = Worker(Path(work), device)
    worker, (kind, change, seed) = _WORKERS[work], task
    if kind == "train":
        worker.job(change, seed)
    elif not (target := worker.work / f"fixed-{change:02}.json").exists():
        write_json(target, worker.fixed(change))


def run(work: Path, device: str = "auto") -> None:
    """Compute the missing records of the study in `work`, with a progress bar that shows the time left.

    Raises what a job raises, and WorkerDiedError if a process ends without an error. The records are kept.
    """
    plan = read_json(work / "plan.json")
    tasks = [("train", change, seed) for seed in range(plan["seeds"]) for change in range(len(plan["changes"]))]
    stages = [tasks, [("fixed", change, 0) for change in range(len(plan["changes"]))] if plan["fixed"] else []]
    shares = names(plan)

    def done() -> float:
        return round(sum(share for name, share in shares.items() if (work / name).exists()), 2)

    total, first, start = round(sum(shares.values()), 2), done(), time.monotonic()
    bar_format = "{l_bar}{bar}| {elapsed} elapsed{postfix}"
    with tqdm(total=total, initial=first, desc="study", bar_format=bar_format) as bar:

        def show_progress() -> None:
            advanced = bar.update(done() - bar.n)
            left = plan_.seconds_left(plan["expected_seconds"], time.monotonic() - start, first / total, bar.n / total)
            bar.set_postfix_str(f"about {tqdm.format_interval(left)} left", refresh=bool(advanced) or sys.stderr.isatty())

        for stage in stages:
            if missing(work, plan):
                _in_parallel(work, device, stage, plan["jobs"], show_progress)


def _in_parallel(
    work: Path, device: str, tasks: list[tuple[str, int, int]], jobs: int, show_progress: Callable[[], None]
) -> None:
    if jobs == 1:
        for task in tasks:
            _job(str(work), device, task)
            show_progress()
        return
    threads = max(1, torch.get_num_threads() // jobs)
    with side_by_side(_job, [(str(work), device, task) for task in tasks], jobs, device, threads) as futures:
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            show_progress()
            for future in finished:
                try:
                    future.result()
                except BrokenProcessPool:
                    raise WorkerDiedError(
                        "a process ended without an error message; the system may have killed it for lack of memory. The "
                        "records are kept, and the same command continues the study"
                    ) from None


def prepare(work: Path, folder: Folder, plan: dict) -> None:
    """Write what the jobs need: first the images, then the plan."""
    tensors = {
        f"{split}_{name}": getattr(part, name)
        for split, part in (("train", folder.train), ("test", folder.test))
        for name in ("images", "labels")
    }
    checkpoints.save_tensors(work / "data.safetensors", tensors, {"digest": folder.digest})
    write_json(work / "plan.json", plan)


def read(work: Path) -> dict:
    """The records of a study: `plan`, and lists `training`, `strong`, `measured` and `fixed`, in the order of the changes."""
    study: dict = {"plan": read_json(work / "plan.json")}
    for kind in ("training", "strong", "measured", "fixed"):
        files = [work / name for name in names(study["plan"]) if _kind(Path(name)) == kind and (work / name).exists()]
        study[kind] = [read_json(file) for file in sorted(files)]
        for file, record in zip(sorted(files), study[kind], strict=True):
            _check_of_plan(file, record, study["plan"])
    return study


def _check_of_plan(file: Path, record: dict, plan: dict) -> None:
    """RecordError if a record's change, seed or number of images is not that of its file name and the plan."""
    change = int(file.stem.split("-")[1])
    sizes = {"training": plan["test_size"], "strong": plan["strong"]["images"], "fixed": plan["strong"]["images"]}
    expected = {"change": plan["changes"][change]["name"], "n": sizes.get(_kind(file), record.get("n"))}
    if _kind(file) == "training" and file.name != training_name(change, record["seed"], record["half"]):
        expected["seed"] = "that of its file's name"
    for name, value in expected.items():
        if name in record and record[name] != value:
            what = f"{file} is not a valid record ({name} must be {value}, given {record[name]}); restore it, or delete it"
            raise RecordError(schema.one_line(what))
