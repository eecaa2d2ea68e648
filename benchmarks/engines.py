"""Compares trainings whose attack is compiled with the same trainings without the compiled attack.

    python benchmarks/engines.py            # 8 seeds, original and smooth-5, recipe `short` of scale laptop; may be interrupted

Both trainings of a pair begin with the same weights and see the same batches and random starts; only the rounding of the
attack's gradients differs. The models are evaluated alike, by the paper's attack on test images. A pair is written to the
record as soon as it is computed, and is not computed again.
"""

import json
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import torch
import typer

from lib import attacks, data, evaluation, training
from lib.fast import forms
from lib.report.sections.engines import ENGINES
from lib.report.sections.speed import mean_interval
from lib.run import devices, material
from lib.store import plans, records
from lib.store.grid import Run

ROOT = Path(__file__).resolve().parents[1]


def trained(run: Run, engine: str, test_size: int) -> tuple[float, float]:
    """Robust accuracy on test images, in percent, of a run whose attacks the named engine computes, and seconds of training."""
    settings = plans.of(run).settings
    images = data.transformed(settings["data"]["source"], "train", run.transform, size=run.train_size, seed=run.seed)
    model = material.new_model(run, torch.device("cpu"))
    # Without a program `pgd` takes the framework's way.
    with mock.patch.object(forms, "program_of", forms.program_of if engine == "compiled" else lambda model, x: None):
        engine_used = attacks.engine_of(model, images[0][:1])
        if engine_used != engine:
            raise typer.BadParameter(f"this processor computes {run.key} by {engine_used}; the comparison needs {engine}")
        outcome = training.train(
            model, *images[:2], **settings["training"], attack=settings["attack"], description=f"{run.key}, {engine}"
        )
    x, y, _ = data.transformed(settings["data"]["source"], "test", run.transform, size=test_size)
    threat_model = attacks.ThreatModel(**plans.of(run).evaluation("pgd").settings["threat_model"])
    evaluated = evaluation.evaluate(model, x, y, threat_model, generator=torch.Generator().manual_seed(0))
    return 100 * evaluated.robust_accuracy, round(outcome.seconds, 1)


def main(
    seeds: int = 8,
    widen_factor: float = 0.125,
    transform: Annotated[list[str] | None, typer.Option(help="May be repeated. Default: original, smooth-5.")] = None,
    test_size: int = 10000,
    output: Annotated[Path, typer.Option(help="The record.")] = ROOT / "results" / "benchmarks" / "engines.json",
) -> None:
    """Train each pair that the record lacks, and say what the differences are."""
    if seeds < 2:
        raise typer.BadParameter(f"seeds must be ≥ 2: an interval needs several; given {seeds}")
    torch.set_num_threads(1)
    devices.device("cpu")
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"] if output.exists() else []
    names = transform or ["original", "smooth-5"]
    for seed in range(seeds):
        for name in names:
            run = Run("mnist", name, "lenet5", widen_factor, "pgd", 60000, "short", seed, "laptop")
            if any(row["key"] == run.key for row in rows):
                continue
            row = {"key": run.key, "transform": name, "seed": seed, "test_size": test_size}
            for engine in ENGINES:
                row[engine], row[f"{engine}_seconds"] = trained(run, engine, test_size)
            rows.append(row)
            records.write_benchmark(output, rows, torch.device("cpu"))
    for name in names:
        pairs = [(row["compiled"], row["framework"]) for row in rows if row["transform"] == name]
        gaps, spread = [ours - theirs for ours, theirs in pairs], np.std([theirs for _, theirs in pairs], ddof=1)
        mean, low, high = mean_interval(gaps)
        typer.echo(
            f"{name}: compiled minus framework {mean:+.2f} points (95% interval {low:+.2f} to {high:+.2f}, {len(gaps)} seeds); "
            f"the seeds' own standard deviation is {spread:.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
