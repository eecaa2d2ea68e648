"""Provides what a run needs: its images, its checkpoint, and its network with trained weights."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import nn

from lib import attacks, certified, data, geometry, models, training, transforms
from lib.base import checkpoints, files
from lib.store import plans, records, schema, weights
from lib.store.grid import Run


def checkpoint_folder(run: Run) -> Path:
    """Where a run's checkpoint and weights lie: `CHECKPOINT_DIR`, by default `checkpoints/`.

    The folder's name holds a digest of the settings: weights trained with other settings are never taken for these.
    """
    plan = plans.of(run)
    identity = json.dumps([plan.settings, plan.numerics], sort_keys=True)
    return files.checkpoints() / run.scale / run.key / hashlib.sha256(identity.encode()).hexdigest()[:12]


def scale_factor(source: str, transform: str, size: int) -> float | None:
    """The factor that gives the set the inter-class distance of the one its `rescale-to-…` names (Section 5.2).

    Distances scale with the factor, so it is the ratio of two distances, both taken on `size` test images. None for a
    transform without such a step. ValueError where the target is farther apart: scaling up would leave the unit cube.
    """
    target = transforms.rescale_target(transform)
    if target is None:
        return None
    base = transform.rpartition("+")[0] or "original"
    aim, reached = (_distance(source, name, size, os.environ.get("DATA_DIR")) for name in (target, base))
    if aim > reached:
        raise ValueError(
            f"{transform}: {target} is farther apart ({aim:.3f}) than {base} ({reached:.3f}); no scale factor ≤ 1 reaches it"
        )
    return aim / reached


@cache
def _distance(source: str, transform: str, size: int, folder: str | None) -> float:
    """The inter-class distance of test images; several seconds on 10,000, and each run needs it several times."""
    x, y, _ = data.transformed(source, "test", transform, size=size)
    return geometry.inter_class_distance(x, y)


def factor_of(run: Run) -> float | None:
    """The `scale_factor` of a run's transform."""
    plan = plans.of(run)
    return scale_factor(plan.settings["data"]["source"], run.transform, plan.evaluation("clean").settings["sizes"]["test"])


def image_provenance(run: Run, *splits: str) -> dict:
    """What a record says of a run's images: the digest of its data set by split, and a scale factor that was solved for."""
    factor, source = factor_of(run), plans.of(run).settings["data"]["source"]
    about = {"data": {split: data.load(source, split).digest for split in splits}}
    return about if factor is None else {**about, "scale_factor": factor}


def images_of(run: Run, split: str, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, str]:
    """(images in [0, 1] after the run's transform, labels, source) of a class-balanced part of the split, on `device`."""
    resolved = plans.of(run).settings["data"]
    factor = factor_of(run)
    # A smaller subset is a prefix of a larger one: the training images evaluated are among those trained on.
    seed = run.seed if split == "train" else 0
    x, y, source = data.transformed(resolved["source"], split, run.transform, size=size, seed=seed, factor=factor)
    return x.to(device), y.to(device), source


def new_model(run: Run, device: torch.device) -> nn.Module:
    """The run's network with its initial weights, which its seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return models.build(**plans.of(run).network).to(device)


def finished(run: Run, device: torch.device) -> nn.Module | None:
    """The network with the final weights of its checkpoint folder, or kept beside its record; None unless they are those that
    the record names.
    """
    file = checkpoint_folder(run) / "weights.safetensors"
    if records.status(run, "training") != "recorded":
        return None
    if not file.exists():  # the weights beside the record will do, unless they were rounded
        kept = weights.path(run).exists() and not weights.is_rounded(run)
        return weights.load(run).to(device) if kept else None
    model = new_model(run, device)
    tensors, _ = checkpoints.load_tensors(file, "cpu")
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise checkpoints.CheckpointError(f"{file} is not of this network; delete it to have it trained again") from None
    # Weights that were written and not yet recorded when the process was killed are trained again, from the checkpoint.
    return model.eval() if records.read(run, "training").get("weights") in (None, weights.digest(model)) else None


def trained_model(run: Run, device: torch.device) -> nn.Module:
    """The run's network with its final weights: from its checkpoint folder, or trained now and recorded.

    A training that fails is recorded as such, with its curve, and raises TrainingFailedError.
    """
    (done,) = trained_models([run], device)
    if isinstance(done, training.TrainingFailedError):
        raise done
    return done


def trained_models(runs: Sequence[Run], device: torch.device) -> list[nn.Module | training.TrainingFailedError]:
    """`trained_model` of runs that can be trained together, or the failure of each, in their order."""
    outcome_of: dict[Run, nn.Module | training.TrainingFailedError] = {}
    lacking, members, sources = [], [], []
    for run in runs:
        if (model := finished(run, device)) is not None:
            weights.keep(run, model)
            outcome_of[run] = model
            continue
        x, y, source = images_of(run, "train", run.train_size, device)
        checkpoint = checkpoint_folder(run) / "training.safetensors"
        lacking.append(run)
        members.append(training.Member(new_model(run, device), x, y, run.seed, checkpoint))
        sources.append(source)
    done = _train(lacking, members) if lacking else []
    for run, member, result, source in zip(lacking, members, done, sources, strict=True):
        failed = isinstance(result, training.TrainingFailedError)
        content = {"metrics": {}, "curve": result.curve, **image_provenance(run, "train")}
        if len(lacking) > 1:
            content["together"] = len(lacking)
        if failed:
            content["failed"] = schema.words(result.reason)
        else:
            content["weights"] = weights.digest(member.model)
            checkpoints.save_tensors(
                checkpoint_folder(run) / "weights.safetensors", member.model.state_dict(), {"key": run.key}
            )
            if plans.of(run).settings.get("attack", {}).get("precision") == "float32":
                content["engine"] = "framework" if len(lacking) > 1 else attacks.engine_of(member.model, member.x[:1])
                content["engine"] = "captured" if device.type == "cuda" else content["engine"]
            if result.step:
                content["step"] = result.step
        records.write(run, "training", content, seconds=result.seconds, device=device, source=source)
        if not failed:
            weights.keep(run, member.model)
        member.checkpoint.unlink(missing_ok=True)
        outcome_of[run] = result if failed else member.model
    return [outcome_of[run] for run in runs]


def _train(runs: list[Run], members: list[training.Member]) -> list[training.Training | training.TrainingFailedError]:
    """What becomes of the members, which are the runs': a run alone, or several together."""
    settings = plans.of(runs[0]).settings
    robust_loss = certified.training_loss(**settings["certificate"]) if "certificate" in settings else None
    keywords = {**settings["training"], "attack": settings.get("attack"), "robust_loss": robust_loss}
    del keywords["seed"]  # each member's own
    return training.train_together(members, **keywords, description=str(runs[0]))


def clear(run: Run) -> None:
    """Delete what a killed process was writing of a run's checkpoint and weights. To be called by who holds its lock."""
    kept = weights.path(run)
    for part in (*checkpoint_folder(run).glob(".*.safetensors.*"), *kept.parent.glob(f".{kept.name}.*")):
        part.unlink(missing_ok=True)


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """No other process is in such a block of `run`, be it one that shares the records alone or the checkpoints alone.

    OSError where there can be no lock. No two processes wait for each other:
    - Who takes several runs takes them in the order of their names. They are trained together, so by one kind of training.
    - Who holds runs takes at most one more at a time, the surrogate that an attack is crafted on (`locked_model`).
    - A surrogate is trained standardly, and no evaluation of such a run has a surrogate. So who holds one waits for none.
    """
    folder = checkpoint_folder(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write checkpoints to {folder}: {error.strerror}") from None
    with records.alone(run), files.locked(folder / "lock"):
        yield


def locked_model(run: Run, device: torch.device) -> nn.Module:
    """`trained_model` of a run that is not the one in hand: no other process trains it meanwhile. What failed fails again."""
    with alone(run):
        records.prepare(run)
        clear(run)
        if records.status(run, "training") == "failed":
            record = records.read(run, "training")
            raise training.TrainingFailedError(record["failed"], record["curve"], record["seconds"])
        return trained_model(run, device)
