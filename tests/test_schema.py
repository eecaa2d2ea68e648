"""A record is what the schema says, or is refused in one line that names the file."""

import base64
import json
from pathlib import Path

import pytest
import stored
from payloads import payloads

from lib.store import grid, records, results
from lib.store.grid import Measurement, Run

ROOT = Path(__file__).resolve().parents[1]
RUN = Run("mnist", "original", "lenet5", 0.125, "pgd", 4000, "default", 0, "smoke")
PIXELS = Measurement("pixel_histogram", "mnist", "original", "smoke")
VOLUME = Measurement("log2_perturbable_volume", "mnist", "original", "smoke")
LINF = Measurement("linf_distance", "mnist", "original", "smoke")
SPACE = Measurement("half_space_simulation", "cube", "original", "smoke")
KINDS = {"training": RUN, "pgd": RUN, "histogram": PIXELS, "volume": VOLUME, "linf": LINF, "table": SPACE}
PAYLOADS = payloads(Path("/nowhere/file"))


SHARES = {"test": {"clean_accuracy": 0.9, "robust_accuracy": 0.5, "robustness_wrt_predictions": 0.6}}


def name_of(kind: str) -> str:
    return kind if kind in ("training", "pgd") else "measured"


def written(kind: str) -> tuple[Path, dict]:
    """The file of a good record, and what stands in it."""
    file = stored.write(KINDS[kind], name_of(kind), SHARES if kind == "pgd" else 0.5)
    return file, json.loads(file.read_text(encoding="utf-8"))


def refused(kind: str, file: Path, text: str | bytes, *, everywhere: bool = False) -> str:
    """What is said of the damaged file where it is read: one line, with its name."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    item, name = KINDS[kind], name_of(kind)
    reads = [lambda: records.read(item, name)]
    if everywhere:
        reads += [lambda: records.status(item, name), lambda: results.frame([item]), lambda: list(records.every("smoke"))]
    for read in reads:
        with pytest.raises(records.RecordError) as error:
            read()
        message = str(error.value)
        assert message.startswith(f"{file} is not a valid record (")
        assert message.isprintable()
        assert len(message) < len(str(file)) + 400
    return message


def changed(record: dict, *path: str, value) -> dict:
    """The record with another value at `path`; without the field, for `...`."""
    record = json.loads(json.dumps(record))
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


def test_every_committed_record_is_one(monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(ROOT / "results"))
    committed = [record for scale in grid.SCALES if scale != "smoke" for record in records.every(scale)]
    assert len(committed) >= 560
    assert results.benchmarks()
    for name in results.benchmarks():
        assert len(results.benchmark(name))


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_record_is_read(kind):
    _, record = written(kind)
    assert list(records.every("smoke")) == [record]
    assert records.read(KINDS[kind], name_of(kind)) == record


TEXTS = ("key", "scale", "evaluation", "device", "source", "date", "commit")


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_of_a_record_is_more_than_words(kind, payload):
    """Each text field of each kind of record, and each name of a field."""
    file, record = written(kind)
    text = PAYLOADS[payload]
    for field in TEXTS:
        refused(kind, file, json.dumps(changed(record, field, value=text)))
    refused(kind, file, json.dumps(changed(record, "versions", "torch", value=text)))
    refused(kind, file, json.dumps(changed(record, "versions", text, value="1")))
    refused(kind, file, json.dumps(changed(record, text, value=1)))
    if kind == "training":
        refused(kind, file, json.dumps(changed(record, "failed", value=text)))
        refused(kind, file, json.dumps(changed(record, "weights", value=text)))
        refused(kind, file, json.dumps(changed(record, "curve", text, value=[1])))
    elif kind == "pgd":
        refused(kind, file, json.dumps(changed(record, "weights", value=text)))
        for field in ("metrics", "outcomes", "sizes"):
            refused(kind, file, json.dumps(changed(record, field, text, value=record[field]["test"])))
        refused(kind, file, json.dumps(changed(record, "metrics", "test", text, value=0.5)))
        refused(kind, file, json.dumps(changed(record, "outcomes", "test", "clean_accuracy", value=text)))
    elif kind == "table":
        refused(kind, file, json.dumps(changed(record, "table", value=[{**record["table"][0], "direction": text}])))
        refused(kind, file, json.dumps(changed(record, "table", value=[{**record["table"][0], text: 1}])))
    elif kind == "volume":
        refused(kind, file, json.dumps(changed(record, "metrics", "test", text, value=0.5)))


@pytest.mark.parametrize("step", ["compiled", "captured", "framework"])
def test_a_training_may_say_what_took_its_steps(step):
    """Records of earlier versions do not."""
    file, record = written("training")
    assert "step" not in record
    file.write_text(json.dumps({**record, "step": step}), encoding="utf-8")
    assert records.read(RUN, "training")["step"] == step
    refused("training", file, json.dumps({**record, "step": f"{step} by hand"}))
    file, record = written("pgd")
    refused("pgd", file, json.dumps({**record, "step": step}))


WRONG_KINDS = [None, True, "0.5", [0.5], {}, {"a": 1}, -1, 1e999, float("nan"), float("-inf"), 2**70, "∞", ...]


@pytest.mark.parametrize("value", WRONG_KINDS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_each_field_of_each_record_has_a_type_and_a_range(kind, value):
    file, record = written(kind)
    for field in record:
        if field == "settings" and isinstance(value, dict):
            continue  # those of another revision of the grid: stale
        if (
            value == {} and field in ("metrics", "sizes", "versions") and record[field] in ({}, record["versions"])
        ):  # any versions
            continue
        if (field in ("device", "source") and value == "0.5") or (field, kind, value) == ("sizes", "table", {}):
            continue
        refused(kind, file, json.dumps(changed(record, field, value=value)))


PACKED = base64.b64encode(bytes([255] * 25)).decode()
DAMAGES = {
    "infinity": ("pgd", ("metrics", "test", "clean_accuracy"), 1e999),
    "250%": ("pgd", ("metrics", "test", "clean_accuracy"), 2.5),
    "-50%": ("pgd", ("metrics", "test", "robust_accuracy"), -0.5),
    "a metric as text": ("pgd", ("metrics", "test", "robust_accuracy"), "0.5"),
    "a metric that is yes": ("pgd", ("metrics", "test", "robust_accuracy"), True),
    "a metric its outcomes contradict": ("pgd", ("metrics", "test", "robust_accuracy"), 0.51),
    "a metric without outcomes": ("pgd", ("outcomes", "test", "robust_accuracy"), ...),
    "outcomes without a metric": ("pgd", ("metrics", "test", "robust_accuracy"), ...),
    "no outcomes": ("pgd", ("outcomes",), ...),
    "outcomes of no image": ("pgd", ("outcomes", "test", "robust_accuracy"), ""),
    "outcomes that are no base64": ("pgd", ("outcomes", "test", "robust_accuracy"), "*" * 36),
    "outcomes of fewer images": ("pgd", ("outcomes", "test", "robust_accuracy"), PACKED[:32]),
    "outcomes of more images": ("pgd", ("outcomes", "test", "robust_accuracy"), PACKED[:-2] + PACKED),
    "other outcomes": ("pgd", ("outcomes", "test", "robust_accuracy"), PACKED),
    "outcomes of one split": ("pgd", ("outcomes", "train"), ...),
    "n of 0": ("pgd", ("sizes", "test"), 0),
    "n of 10": ("pgd", ("sizes", "test"), 10),
    "n of a half": ("pgd", ("sizes", "test"), 200.5),
    "n as text": ("pgd", ("sizes", "test"), "200"),
    "n that is yes": ("pgd", ("sizes", "test"), True),
    "no size of a split": ("pgd", ("sizes", "train"), ...),
    "weights of another kind": ("pgd", ("weights",), "ABC"),
    "null for the source": ("pgd", ("source",), None),
    "no day": ("pgd", ("date",), "yesterday"),
    "no time": ("pgd", ("date",), "2026-01-02"),
    "a commit that is none": ("pgd", ("commit",), "main"),
    "a factor above 1": ("pgd", ("scale_factor",), 1.5),
    "less than no time": ("pgd", ("seconds",), -1.0),
    "a curve of two lengths": ("training", ("curve", "loss"), [0.1, 0.2]),
    "a curve that ends early": ("training", ("curve", "step"), [60]),
    "a curve past the end": ("training", ("curve", "step"), [121]),
    "an accuracy above 1": ("training", ("curve", "accuracy"), [1.5]),
    "an infinite loss": ("training", ("curve", "loss"), [1e999]),
    "no curve": ("training", ("curve",), ...),
    "metrics of a training": ("training", ("metrics",), {"test": {"clean_accuracy": 1.0}}),
    "no histogram": ("histogram", ("histogram",), ...),
    "a histogram without counts": ("histogram", ("histogram", "counts"), ...),
    "a histogram of too few edges": ("histogram", ("histogram", "edges"), [0.0, 1.0]),
    "edges that fall": ("histogram", ("histogram", "edges"), [0.0, 1.0, 0.5]),
    "a count below 0": ("histogram", ("histogram", "counts"), [-200, 400]),
    "a count of half a pixel": ("histogram", ("histogram", "counts"), [0.5, 200]),
    "counts of other images": ("histogram", ("histogram", "counts"), [200, 201]),
    "a volume as text": ("volume", ("metrics", "test", "log2_perturbable_volume"), "-1"),
    "no volume": ("volume", ("metrics", "test", "log2_perturbable_volume"), ...),
    "no metrics": ("volume", ("metrics",), {}),
    "a distance beyond the cube": ("linf", ("metrics", "test", "linf_distance_median"), 1.5),
    "an empty table": ("table", ("table",), []),
    "rows that are none": ("table", ("table",), [1]),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_one_line(damage):
    kind, path, value = DAMAGES[damage]
    file, record = written(kind)
    refused(kind, file, json.dumps(changed(record, *path, value=value)), everywhere=True)


@pytest.mark.parametrize(
    "texts",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.encode()[:300] + b"\xff\xfe",
        lambda text: "[" * 100_000,
        lambda text: '{"a":' * 100_000,
        lambda text: text.replace('"settings": {', '"settings": {"a": ' + "[" * 100_000 + "]" * 100_000 + ", ", 1),
        lambda text: text.replace('"seconds"', '"seconds": 1, "seconds"', 1),
        lambda text: text.replace('"clean_accuracy": 0.9', '"clean_accuracy": 0.1, "clean_accuracy": 0.9', 1),
        lambda text: text.replace('"clean_accuracy": 0.9', '"clean_accuracy": NaN', 1),
        lambda text: text.replace('"clean_accuracy": 0.9', '"clean_accuracy": Infinity', 1),
        lambda text: text.replace('"clean_accuracy": 0.9', '"clean_accuracy": 1e999', 1),
        lambda text: text.replace('"clean_accuracy": 0.9', '"clean_accuracy": ' + "9" * 5000, 1),
        lambda text: text + text,
        lambda text: json.dumps([json.loads(text)]),
    ],
)
def test_what_is_no_json_object_is_one_line(texts):
    file, _ = written("pgd")
    text = file.read_text(encoding="utf-8")
    assert texts(text) != text
    refused("pgd", file, texts(text), everywhere=True)


def test_clean_and_robust_accuracy_swapped_with_their_outcomes():
    file, record = written("pgd")
    for field in ("metrics", "outcomes"):
        for values in record[field].values():
            values["clean_accuracy"], values["robust_accuracy"] = values["robust_accuracy"], values["clean_accuracy"]
    assert "the robust accuracy 0.9 is above the clean accuracy 0.5" in refused("pgd", file, json.dumps(record))


def test_metrics_other_than_the_grids():
    file, record = written("pgd")
    for field in ("metrics", "outcomes"):
        del record[field]["test"]["robust_accuracy"]
    file.write_text(json.dumps(record))
    with pytest.raises(records.RecordError, match="the metrics of test must be clean_accuracy, robust_accuracy, robustness"):
        records.read(RUN, "pgd")


def test_a_record_in_another_place():
    file, _ = written("pgd")
    file.rename(file.with_name("clean.json"))
    with pytest.raises(records.RecordError, match=r"clean.json is not a valid record \(it is the record pgd of smoke: mnist"):
        list(records.every("smoke"))


def test_a_stray_file_with_a_name_of_several_lines():
    stray = records.folder() / "smoke" / "a\n::error::b.json"
    stray.parent.mkdir(parents=True)
    stray.write_text("{}")
    with pytest.raises(records.RecordError) as error:
        list(records.every("smoke"))
    assert str(error.value).isprintable()


def test_what_would_be_refused_is_not_written():
    file, before = written("pgd")
    with pytest.raises(ValueError, match="weights must match pattern .*, given 'ABC'"):
        stored.write(RUN, "pgd", SHARES, weights="ABC")
    assert json.loads(file.read_text(encoding="utf-8")) == before


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("AMD EPYC 7B13", "AMD EPYC 7B13"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "Intel(R) Xeon(R) CPU @ 2.20GHz"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("<b>{{x}}</b>\n=1", "b x /b =1"),
        ("==[]", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_the_name_of_a_device_is_words(monkeypatch, given, kept):
    monkeypatch.setattr(records, "_processor", lambda: given)
    _, record = written("volume")
    assert record["device"] == f"{kept}, 1 thread"


@pytest.fixture
def benchmark(monkeypatch, tmp_path) -> tuple[Path, dict]:
    """A benchmark's file in a folder of its own, and what stands in it."""
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    text = (ROOT / "results" / "benchmarks" / "pgd-cpu.json").read_text(encoding="utf-8")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    return tmp_path / "results" / "benchmarks" / "pgd-cpu.json", json.loads(text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_benchmark_is_more_than_words(benchmark, payload):
    file, record = benchmark
    text = PAYLOADS[payload]
    file.write_text(json.dumps(record))
    assert len(results.benchmark("pgd-cpu"))
    rows = record["rows"]
    damaged = [{**record, field: text} for field in ("device", "date", "commit", "platform")]
    damaged += [{**record, text: 1}, {**record, "versions": {"torch": text}}]
    damaged += [{**record, "rows": [{**row, field: text} for row in rows]} for field in ("case", "engine", "version", "batch")]
    damaged += [{**record, "rows": [{**row, text: 1} for row in rows]}, {**record, "rows": [rows[0], {"case": "a"}]}]
    for each in damaged:
        file.write_text(json.dumps(each))
        with pytest.raises(records.RecordError) as error:
            results.benchmark("pgd-cpu")
        assert str(error.value).startswith(f"{file} is not a valid benchmark (")
        assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["{{ 7 }}", "<b>", "a b", "=1", "a\nb", "A"])
def test_a_stray_file_is_no_benchmark(benchmark, name):
    file, record = benchmark
    file.with_name(f"{name}.json").write_text(json.dumps(record))
    with pytest.raises(records.RecordError, match="no benchmark has this name; rename or delete it") as error:
        results.benchmarks()
    assert str(error.value).isprintable()
