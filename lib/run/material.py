"""What is computed with: a run's images, its checkpoint, and its network with the weights that training gives it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import nn

from lib import attacks, certified, checkpoints, data, evaluation, files, geometry, models, training, transforms
from lib.store import grid, records, schema, weights
from lib.store.grid import Run

CHANCE = 0.001  # an outcome less likely than this is none of chance's


def checkpoint_folder(run: Run) -> Path:
    """Where a run's checkpoint and weights lie: `CHECKPOINT_DIR`, by default `checkpoints/`.

    The folder's name holds a digest of the settings: weights trained with other settings are never taken for these.
    """
    identity = json.dumps([grid.settings(run), grid.numerics(run)], sort_keys=True)
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
    sizes = grid.evaluation_settings(run, "clean")["sizes"]
    return scale_factor(grid.settings(run)["data"]["source"], run.transform, sizes["test"])


def told(run: Run, *splits: str) -> dict:
    """What a record says of a run's images: the digest of its data set by split, and a scale factor that was solved for."""
    factor, source = factor_of(run), grid.settings(run)["data"]["source"]
    about = {"data": {split: data.load(source, split).digest for split in splits}}
    return about if factor is None else {**about, "scale_factor": factor}


def images_of(run: Run, split: str, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, str]:
    """(images in [0, 1] after the run's transform, labels, source) of a class-balanced part of the split, on `device`."""
    resolved = grid.settings(run)["data"]
    factor = factor_of(run)
    # A smaller subset is a prefix of a larger one: the training images evaluated are among those trained on.
    seed = run.seed if split == "train" else 0
    x, y, source = data.transformed(resolved["source"], split, run.transform, size=size, seed=seed, factor=factor)
    return x.to(device), y.to(device), source


def new_model(run: Run, device: torch.device) -> nn.Module:
    """The run's network with its initial weights, which its seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return models.build(**grid.network(run)).to(device)


def finished(run: Run, device: torch.device) -> nn.Module | None:
    """The network with the final weights of its checkpoint folder, or kept beside its record; None unless they are those that
    the record tells of.
    """
    file = checkpoint_folder(run) / "weights.safetensors"
    if records.status(run, "training") != "recorded":
        return None
    if not file.exists():  # those that are kept beside the record do as well, unless they were rounded
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


def keep_weights(run: Run) -> bool:
    """Keep the weights of a run that was trained here before, if its are kept at all. Returns whether any were written.

    They are attacked again, as `check_kept` does, and raise what it raises.
    """
    model = finished(run, torch.device("cpu")) if grid.keeps_weights(run) else None
    written = model is not None and weights.keep(run, model)
    if written and records.status(run, _evaluation(run)) == "recorded":
        check_kept(run)
    return written


def _evaluation(run: Run) -> str:
    """The evaluation that kept weights are checked by: the paper's attack, or, of standard training, clean images alone."""
    return "pgd" if run.training == "pgd" else "clean"


@dataclass(frozen=True)
class Compared:
    """Outcomes of the same images, recorded and found again: two shares in percent, and how many images differ either way."""

    images: int
    recorded: float
    found: float
    more: int  # true now, and not in the record
    fewer: int

    @staticmethod
    def of(recorded: torch.Tensor, found: torch.Tensor) -> "Compared":
        """Both: a truth value for each image."""
        shares = (100 * bits.double().mean().item() for bits in (recorded, found))
        return Compared(len(found), *shares, int((found & ~recorded).sum()), int((recorded & ~found).sum()))

    @property
    def by_rounding(self) -> bool:
        """Whether another processor's rounding explains the images that differ: it tips them either way, alike. An exact sign
        test must not find that one side has more (p < .001).
        """
        return not (self.more + self.fewer) or bool(binomtest(self.more, self.more + self.fewer).pvalue >= CHANCE)


def check_kept(run: Run, images: int = 500) -> None:
    """Evaluate the kept weights of `run` as its record says, on the first so many test images, and compare image by image.

    RecordError, with the numbers, where rounding does not explain the images that differ (`Compared.by_rounding`): these
    weights do not give the record. FileNotFoundError where no weights are kept, or no such record is.
    """
    record = records.read(run, _evaluation(run))
    resolved = record["settings"]["evaluation"]
    x, y, _ = images_of(run, "test", record["sizes"]["test"], torch.device("cpu"))
    generator = torch.Generator().manual_seed(resolved["seed"])
    threat_model = attacks.ThreatModel(**resolved["threat_model"]) if "threat_model" in resolved else None
    found = evaluation.evaluate(
        weights.load(run), x[:images], y[:images], threat_model, generator=generator, description=f"{run}, attacked again"
    ).outcomes()
    for metric, outcome in found.items():
        both = Compared.of(records.unpack(record["outcomes"]["test"][metric], record["sizes"]["test"])[:images], outcome)
        if not both.by_rounding:
            raise records.RecordError(
                f"{weights.path(run)} does not give its record: on {both.images} images {metric} is {both.found:.1f}%, "
                f"recorded {both.recorded:.1f}%; {both.more} stand that fell, {both.fewer} fall that stood. The record stays; "
                f"delete the file to have it written again"
            )


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
    found: dict[Run, nn.Module | training.TrainingFailedError] = {}
    lacking, members, sources = [], [], []
    for run in runs:
        if (model := finished(run, device)) is not None:
            weights.keep(run, model)
            found[run] = model
            continue
        x, y, source = images_of(run, "train", run.train_size, device)
        checkpoint = checkpoint_folder(run) / "training.safetensors"
        lacking.append(run)
        members.append(training.Member(new_model(run, device), x, y, run.seed, checkpoint))
        sources.append(source)
    done = _train(lacking, members) if lacking else []
    for run, member, result, source in zip(lacking, members, done, sources, strict=True):
        failed = isinstance(result, training.TrainingFailedError)
        content = {"metrics": {}, "curve": result.curve, **told(run, "train")}
        if len(lacking) > 1:
            content["together"] = len(lacking)
        if failed:
            content["failed"] = schema.words(result.reason)
        else:
            content["weights"] = weights.digest(member.model)
            checkpoints.save_tensors(
                checkpoint_folder(run) / "weights.safetensors", member.model.state_dict(), {"key": run.key}
            )
            if grid.settings(run).get("attack", {}).get("precision") == "float32":
                content["engine"] = "framework" if len(lacking) > 1 else attacks.engine_of(member.model, member.x[:1])
                content["engine"] = "captured" if device.type == "cuda" else content["engine"]
        records.write(run, "training", content, seconds=result.seconds, device=device, source=source)
        if not failed:
            weights.keep(run, member.model)
        member.checkpoint.unlink(missing_ok=True)
        found[run] = result if failed else member.model
    return [found[run] for run in runs]


def _train(runs: list[Run], members: list[training.Member]) -> list[training.Training | training.TrainingFailedError]:
    """What becomes of the members, which are the runs': a run alone, or several together."""
    settings = grid.settings(runs[0])
    robust_loss = certified.training_loss(**settings["certificate"]) if "certificate" in settings else None
    keywords = {**settings["training"], "attack": settings.get("attack"), "robust_loss": robust_loss}
    if len(runs) > 1:
        del keywords["seed"]  # each member's own
        return training.train_together(members, **keywords, description=str(runs[0]))
    (member,) = members
    try:
        return [
            training.train(
                member.model, member.x, member.y, **keywords, checkpoint=member.checkpoint, description=str(runs[0])
            )
        ]  # fmt: skip
    except training.TrainingFailedError as failure:
        return [failure]


def clear(run: Run) -> None:
    """Delete what a killed process was writing of a run's checkpoint and weights. To be called by who holds its lock."""
    kept = weights.path(run)
    for part in (*checkpoint_folder(run).glob(".*.safetensors.*"), *kept.parent.glob(f".{kept.name}.*")):
        part.unlink(missing_ok=True)


def locked_model(run: Run, device: torch.device) -> nn.Module:
    """`trained_model` of a run that is not the one in hand: no other process trains it meanwhile. What failed fails again."""
    folder = checkpoint_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    with files.alone(folder / "lock"):
        clear(run)
        if records.status(run, "training") == "failed":
            record = records.read(run, "training")
            raise training.TrainingFailedError(record["failed"], record["curve"], record["seconds"])
        return trained_model(run, device)
