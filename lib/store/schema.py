"""The schema of a record: its types, ranges and sizes. Every record is checked against it when it is read.

Records come by pull request and from clusters: they are data, and what stands in them must be fit to be shown.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import fastjsonschema
import numpy as np

# The words of a record: letters, digits and what stands in the names of processors and data sets; nothing that a page, a
# spreadsheet or a shell would take for more than words.
TEXT = {"type": "string", "pattern": r"^[^\W_][\w .,:;()@+/&%='®™×-]{0,199}$"}


def _words(pattern: str) -> dict:
    return {"type": "string", "pattern": pattern}


def _number(low: float = -1e300, high: float = 1e300, kind: str = "number") -> dict:
    """Finite, from `low` to `high`."""
    return {"type": kind, "minimum": low, "maximum": high}


def _object(required: dict, **optional: dict) -> dict:
    """These fields and no others."""
    return {
        "type": "object", "required": list(required), "properties": {**required, **optional}, "additionalProperties": False
    }  # fmt: skip


def _named(value: dict, pattern: str = r"^[a-z][a-z0-9_.]{0,60}$") -> dict:
    """Any number of fields, all of one kind."""
    return {"type": "object", "patternProperties": {pattern: value}, "additionalProperties": False}


def _list(of: dict, at_least: int = 0) -> dict:
    return {"type": "array", "items": of, "minItems": at_least}


SHARE, POSITIVE, COUNT = _number(0, 1), _number(0), _number(0, 2**53, "integer")
SIZE = _number(1, 2**53, "integer")
TRAINING, DIRECTION = {"enum": ["standard", "pgd"]}, {"enum": ["axis", "diagonal"]}
DATE = _words(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:\d\d|Z)$")
COMMIT = _words(r"^([0-9a-f]{7,40}(-dirty)?|unknown)$")
VERSIONS = _named(_words(r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,60}$"))
# What took the steps of the attack, or of the training; records of earlier versions do not have it.
ENGINE = {"enum": ["compiled", "captured", "framework"]}
WEIGHTS = _words(r"^[0-9a-f]{12}$")


def _by_split(value: dict) -> dict:
    return _object({}, test=value, train=value)


def _record(own: dict, **optional: dict) -> dict:
    about = {
        "key": _words(r"^[0-9A-Za-z][0-9A-Za-z_.+/-]{0,299}$"),
        "scale": _words("^[a-z]{1,40}$"),
        "evaluation": _words("^[a-z0-9-]{1,40}$"),
        "numerics": _number(1, 10**6, "integer"),
        "settings": {"type": "object"},  # those of the grid, or the record is stale
        "seconds": _number(0, 1e10),
        "device": TEXT,
        "source": TEXT,
        "date": DATE,
        "commit": COMMIT,
        "versions": VERSIONS,
    }
    # `data`: by split, the sha256 of the data set. Records of earlier versions lack it.
    return _object({**about, **own}, scale_factor=SHARE, data=_by_split(_words("^[0-9a-f]{64}$")), **optional)


CURVE = _object({"step": _list(SIZE), "loss": _list(POSITIVE), "accuracy": _list(SHARE)})
EVALUATION = _record(
    {"metrics": _by_split(_named(SHARE)), "sizes": _by_split(SIZE), "outcomes": _by_split(_named({"type": "string"}))},
    weights=WEIGHTS,
    engine=ENGINE,
)
# A training that failed has no weights, and says why. `together`: how many shared its process and seconds, where several did.
TRAINED = _record(
    {"metrics": _object({}), "curve": CURVE},
    sizes=_object({}), weights=WEIGHTS, engine=ENGINE, step=ENGINE, failed=TEXT, together=SIZE,
)  # fmt: skip

_DISTANCES = {
    "linf_distance_smallest": SHARE, "linf_distance_percentile_1": SHARE, "linf_distance_median": SHARE,
    "linf_distance_share_above_0.9": SHARE,
}  # fmt: skip
# By quantity: the metrics of the test images.
_METRICS = {
    "log2_perturbable_volume": {"log2_perturbable_volume": _number()},
    "inter_class_distance": {"inter_class_distance": POSITIVE},
    "linf_distance": _DISTANCES,
}
# By quantity: the columns of its table.
_COLUMNS = {
    "pairwise_distances": {"d": SIZE, "left": POSITIVE, "right": POSITIVE, "count": COUNT},
    "example_1_simulation": {
        "d": SIZE, "eps": POSITIVE, "n": SIZE, "axis": COUNT, "diagonal": COUNT, "diagonal_in_cube": COUNT, "bayes": COUNT,
    },
    "half_space_simulation": {
        "direction": DIRECTION, "d": SIZE, "mass": SHARE, "eps": POSITIVE, "n": SIZE, "inside": COUNT,
    },
    "sphere_separation": {
        "d": SIZE, "width": SIZE, "gap": POSITIVE, "training": TRAINING, "eps": POSITIVE, "n": SIZE, "clean_accuracy": SHARE,
        "robust_accuracy": SHARE,
    },
    "sphere_boundary": {
        "panel": COUNT, "gap": POSITIVE, "width": SIZE, "training": TRAINING, "eps": POSITIVE, "n": SIZE,
        "clean_accuracy": SHARE, "robust_accuracy": SHARE, "angle": POSITIVE, "radius": POSITIVE,
    },
    "linear_margin": {"eps": POSITIVE, "margin": _number(), "largest_margin": _number(), "d": SIZE, "n": SIZE},
}  # fmt: skip
QUANTITIES = ("pixel_histogram", *_METRICS, *_COLUMNS)
_COUNTS_OF_N = ("axis", "diagonal", "diagonal_in_cube", "bayes", "inside")
HISTOGRAM = _object({"edges": _list(SHARE, 2), "counts": _list(COUNT, 1)})

_CELL = {"anyOf": [_number(), TEXT, {"enum": ["", None]}, _list(_number())]}
BENCHMARK = {
    "type": "object",
    "required": ["rows", "device", "date", "commit"],
    "properties": {
        "rows": _list(_named(_CELL), 1), "device": TEXT, "date": DATE, "commit": COMMIT, "versions": VERSIONS,
    },
    "patternProperties": {"^[a-z][a-z0-9_]{0,60}$": {"anyOf": [{"type": "object"}, {"type": "array"}, _CELL]}},
    "additionalProperties": False,
}  # fmt: skip

# Of a study of a folder (`lib.sensitivity`), by kind. Its words are the user's: all printable characters, escaped where shown.
_LINE = {"type": "string", "maxLength": 10_000}
_BASE64 = _words(r"^[A-Za-z0-9+/]*={0,2}$")
_CHANGED, _FAILED = {"change": _LINE, "seconds": POSITIVE}, {"failed": _LINE}
_OUTCOMES = _object({"clean": _BASE64, "robust": _BASE64})
_SEED = {"seed": COUNT, "half": {"type": "boolean"}, "steps": SIZE}
_EXAMPLE = _object({"clean": _BASE64, "attacked": _BASE64, "sure": SHARE, "sure_attacked": SHARE}
                   | dict.fromkeys(("label", "says", "says_attacked"), _LINE))  # fmt: skip
_FOUND = {
    "training": {"n": SIZE, "outcomes": _OUTCOMES, "training_accuracy": SHARE},
    "strong": {
        "n": SIZE, "curve": _named(SHARE, r"^[0-9][0-9.e-]{0,20}$"), "examples": _list(_EXAMPLE),
        "outcomes": _object(dict.fromkeys(("reference", "one_step", "100_steps", "moved"), _BASE64)),
        "suite": _object({"name": _LINE, "n": SIZE, "held": _BASE64}),
    },
    "fixed": {"n": SIZE, "outcomes": _OUTCOMES},
}  # fmt: skip
_SPLITS, _EPS, _RATE = {"train": SIZE, "test": SIZE}, _number(1e-9, 1), _number(0, 1e6)
STUDY = {
    kind: {"anyOf": [_object({**_CHANGED, **own, **outcome}) for outcome in (_FOUND[kind], _FAILED)]}
    for kind, own in (("training", _SEED), ("strong", {}), ("fixed", {}))
} | {
    "measured": _object(
        {
            **_CHANGED, "n": SIZE, "log2_perturbable_volume": _number(), "pictures": _list(_BASE64),
            "inter_class_distance": {"anyOf": [POSITIVE, {"enum": [None]}]},
        }
    ),
    "plan": _object(
        {
            "folder": _LINE, "digest": _words("^[0-9a-f]{64}$"), "classes": _list(_LINE, 2), "notes": _list(_LINE),
            "sizes": _object(_SPLITS),
            "image": _object({"in_channels": {"enum": [1, 3]}, "image_size": _number(8, 64, "integer")}),
            "changes": _list(_object({"name": _LINE, "does": _LINE, "source": _words("^([0-9a-f]{64})?$")}), 1),
            "eps_reason": _LINE, "device": TEXT, "commit": COMMIT, "versions": VERSIONS,
            "seeds": SIZE, "fixed": {"type": "boolean"}, "minutes": POSITIVE,
            "threat_model": _object({"eps": _EPS, "num_steps": SIZE, "step_size": POSITIVE}), "eps_curve": _list(SHARE, 1),
            "jobs": SIZE, "test_size": SIZE,
            "model": _object({"name": _LINE, "reason": _LINE}, widen_factor=_number(0, 100), source=_LINE),
            "training": _object(
                {"schedule": _LINE, "batch_size": SIZE, "optimizer": _LINE, "lr": _RATE, "weight_decay": _RATE, "steps": SIZE},
                momentum=SHARE,
            ),
            "attack": _object(
                {
                    "eps": _EPS, "num_steps": SIZE, "step_size": POSITIVE, "warmup": SHARE, "bounds": _list(_number(), 2),
                    "random_start": {"type": "boolean"},
                }
            ),
            "strong": _object({"images": SIZE, "suite_images": SIZE, "autoattack": {"type": "boolean"}}),
            "epochs": POSITIVE, "step_seconds": POSITIVE, "expected_seconds": POSITIVE, "job_seconds": _list(POSITIVE),
            "options": {"type": "object"},
        },
        largest_class=SHARE,
    ),
}  # fmt: skip


def _measured(quantity: str) -> dict:
    factor = {"scale_factor": SHARE}
    if quantity in _METRICS:
        metrics, own = _object({"test": _object(_METRICS[quantity], **factor)}), {}
    elif quantity in QUANTITIES:
        metrics = _object({}, test=_object({}, **factor))
        histogram = quantity == "pixel_histogram"
        own = {"histogram": HISTOGRAM} if histogram else {"table": _list(_object(_COLUMNS[quantity]), 1)}
    else:
        raise ValueError(f"unknown quantity {quantity!r}; allowed: {', '.join(QUANTITIES)}")
    sizes = _object({}, test=SIZE) if quantity in _COLUMNS else _object({"test": SIZE})
    return _record({"metrics": metrics, "sizes": sizes, **own})


@cache
def _validator(kind: str) -> Callable:
    declared = {"evaluation": EVALUATION, "training": TRAINED, "benchmark": BENCHMARK}
    declared |= {f"study of {kind}": schema for kind, schema in STUDY.items()}
    schema = declared[kind] if kind in declared else _measured(kind)
    return fastjsonschema.compile({"$schema": "http://json-schema.org/draft-04/schema#", **schema})


def one_line(text: object) -> str:
    """The text in one line: a character that no printer shows, such as a line break, as Python would write it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def words(text: str) -> str:
    """The text, such as a device's name, without the characters that a record does not take; "unnamed" if nothing is left."""
    return re.sub(r"^[\W_]+", "", " ".join(re.sub(r"[^\w .,:;()@+/&%='®™×-]", " ", text).split()))[:180] or "unnamed"


def parsed(text: str) -> dict:
    """The JSON object that stands in `text`. ValueError, of one line, for anything else: ∞, NaN or a field twice too."""
    try:
        record = json.loads(text, object_pairs_hook=_once, parse_constant=_refused)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"it must be an object of fields, given {_shown(record)}")
    return record


def _once(pairs: list[tuple[str, object]]) -> dict:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {_shown(next(name for name in names if names.count(name) > 1))} twice")
    return mapping


def _refused(constant: str) -> None:
    raise ValueError(f"JSON does not allow the number {constant}")


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def check(record: dict) -> None:
    """ValueError, of one line, for a run's or a measurement's record that is not what it should be.

    Its metrics must be those that its outcomes give, and the sizes those of its settings.
    """
    name = record.get("evaluation")
    if name == "measured":
        _validate(record, str(record.get("key")).split("/")[1:2][0] if "/" in str(record.get("key")) else "")
        _check_measured(record)
    elif name == "training":
        _validate(record, "training")
        _check_training(record)
    else:
        _validate(record, "evaluation")
        _check_outcomes(record)


def check_benchmark(record: dict) -> None:
    """ValueError, of one line, for a benchmark's record that is not what it should be."""
    _validate(record, "benchmark")
    if len({tuple(row) for row in record["rows"]}) > 1:
        raise ValueError("its rows differ in their columns")


def check_study(record: dict, kind: str) -> None:
    """ValueError, of one line, for a record of a study that is not what it should be; `kind`: a key of `STUDY`."""
    _validate(record, f"study of {kind}")
    for text in _texts(record):
        if not text.isprintable():
            raise ValueError(f"it has a character that cannot be printed, given {_shown(text)}")
    for metric, packed in record.get("outcomes", {}).items():
        unpacked(packed, record["n"], f"outcomes.{metric}")
    if "suite" in record:
        unpacked(record["suite"]["held"], record["suite"]["n"], "suite.held")
        if record["suite"]["n"] > record["n"] or "1" not in record["curve"]:
            raise ValueError("its suite must have no more images than it, and its curve must reach 1")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def unpacked(packed: str, n: int, name: str) -> np.ndarray:
    """The outcomes of n images, booleans. ValueError, of one line, for what is not so many."""
    try:
        bits = np.unpackbits(np.frombuffer(base64.b64decode(packed, validate=True), np.uint8))
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} must be base64, given {_shown(packed)}") from None
    _agree(f"the bytes of {name}", len(bits) // 8, -(-n // 8))
    if bits[n:].any():
        raise ValueError(f"{name} holds more than {n} images")
    return bits[:n].astype(bool)


def _validate(record: dict, kind: str) -> None:
    try:
        _validator(kind)(record)
    except fastjsonschema.JsonSchemaValueException as error:
        what = one_line(error.message.replace("data.", "", 1).replace("data ", "it ", 1))
        raise ValueError(f"{what if len(what) <= 160 else f'{what[:157]}…'}, given {_shown(error.value)}") from None


def _agree(what: str, given: object, expected: object) -> None:
    if given != expected:
        raise ValueError(f"{what} must be {_shown(expected)}, given {_shown(given)}")


def _check_training(record: dict) -> None:
    curve, steps = record["curve"], record["settings"].get("training", {}).get("steps")
    _agree("the lengths of its curve", [len(curve[name]) for name in ("loss", "accuracy")], [len(curve["step"])] * 2)
    if any(later <= step for step, later in pairwise(curve["step"])):
        raise ValueError("the steps of its curve must rise")
    if "failed" in record and "weights" in record:
        raise ValueError("a training that failed has no weights")
    if "failed" not in record and curve["step"]:
        _agree("the last step of its curve", curve["step"][-1], steps)


def _check_outcomes(record: dict) -> None:
    sizes, metrics, outcomes = record["sizes"], record["metrics"], record["outcomes"]
    _agree("sizes", sizes, record["settings"].get("evaluation", {}).get("sizes"))
    for name, by_split in (("metrics", metrics), ("outcomes", outcomes)):
        _agree(f"the splits of its {name}", sorted(by_split), sorted(sizes))
    for split, n in sizes.items():
        _agree(f"the outcomes of {split}", sorted(outcomes[split]), sorted(metrics[split]))
        if not metrics[split]:
            raise ValueError(f"metrics.{split} is empty")
        for metric, packed in outcomes[split].items():
            bits = unpacked(packed, n, f"outcomes.{split}.{metric}")
            if abs(bits.sum() / n - metrics[split][metric]) > 1e-9:
                raise ValueError(
                    f"metrics.{split}.{metric} is {metrics[split][metric]}, and its outcomes say {bits.sum()} of {n}"
                )
        clean, robust = metrics[split].get("clean_accuracy", 1), metrics[split].get("robust_accuracy", 0)
        # An attack may correct a wrong prediction by chance; a network of scale smoke has many wrong ones.
        if robust > clean + (0.1 if record["scale"] == "smoke" else 0.01):
            raise ValueError(f"{split}: the robust accuracy {robust} is above the clean accuracy {clean}")


def _check_measured(record: dict) -> None:
    settings = record["settings"]
    if "test" in record["sizes"]:
        expected = settings["points"] if "points" in settings else settings.get("data", {}).get("test_size")
        _agree("sizes.test", record["sizes"]["test"], expected)
    if "histogram" in record:
        edges, counts = record["histogram"]["edges"], record["histogram"]["counts"]
        _agree("the number of the histogram's edges", len(edges), len(counts) + 1)
        if any(right <= left for left, right in pairwise(edges)):
            raise ValueError("the histogram's edges must rise")
        if not sum(counts) or sum(counts) % record["sizes"]["test"]:
            raise ValueError(f"the histogram counts {sum(counts)} pixels, of {record['sizes']['test']} images")
    for row in record.get("table", []):
        if any(row[name] > row["n"] for name in _COUNTS_OF_N if name in row):
            raise ValueError(f"a row of its table counts more than its n of {row['n']}")
        if "left" in row and row["right"] <= row["left"]:
            raise ValueError(f"a bin of its table runs from {row['left']} to {row['right']}")
