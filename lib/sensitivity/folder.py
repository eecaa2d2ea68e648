"""Reads a folder of images as a data set: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`, which it splits.

- It reads PNG, JPEG, WebP and TIFF files. It rotates an image as its EXIF data say.
- 16-bit grey pixels are divided by 257, so that 65535 becomes 255 in every image. 16-bit colour pixels, and grey ones with an
  alpha channel, keep their high byte, as Pillow reads them. 32-bit and floating-point pixels are refused, since their range is
  unknown.
- Images with an alpha channel or a transparent colour are laid over white.
- Images are resized once to squares of `size` pixels, by Pillow's bicubic filter with antialiasing.
- The images have one channel if all files are grey or all colour files have three equal channels; otherwise three channels.
"""

import hashlib
import os
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from lib.data import ImageSet
from lib.report.words import counted
from lib.store import schema

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
LARGEST = 32_000_000  # pixels in a file; a larger file takes gigabytes to decode
LARGEST_SIDE = 64  # pixels; of the images that networks are trained on
INFERRED_SIDE = 32  # pixels; if the files are larger than LARGEST_SIDE
TEST_SHARE = 0.2
COLOURS = ("auto", "grey", "rgb")
_GREY, _COLOUR = (
    ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I"),
    ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"),
)
# PNG pixels that Pillow changes on reading, but not the transparent colour beside them.
_CHANGED_ON_READING = ("L;2", "L;4", "RGB;16B")
_JUNK = ("Thumbs.db", "desktop.ini", "__MACOSX")


class FolderError(ValueError):
    """The folder cannot be read as a data set."""


@dataclass(frozen=True)
class Folder:
    """A data set read from a folder."""

    name: str
    classes: list[str]
    train: ImageSet
    test: ImageSet
    digest: str  # sha256 of classes, pixels and labels of both splits: it identifies the data set
    notes: list[str] = field(default_factory=list)  # how the images were converted, and possible faults of the set

    @property
    def channels(self) -> int:
        """1 (grey) or 3."""
        return self.train.images.shape[1]

    @property
    def side(self) -> int:
        """Height and width of the images, in pixels."""
        return self.train.images.shape[2]


def _printable(path: Path | str) -> str:
    """A path for a message: always one line, also where the name holds control characters."""
    return schema.one_line(str(path).encode("utf-8", "replace").decode())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _JUNK)


def _splits(folder: Path) -> dict[str, Path]:
    """The folder of each split; the only split is `all` if the classes lie in the folder itself."""
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{_printable(folder)} {fault}; give a folder of CLASS/*, or of train/CLASS/* and test/CLASS/*")
    names = {path.name for path in _visible(folder) if path.is_dir()}
    splits = {name for name in ("train", "test") if name in names}
    for name in ("train", "test"):
        if name not in names and (other := next((each for each in sorted(names) if each.lower() == name), "")):
            raise FolderError(f"{_printable(folder)} has {_printable(other)}/; rename it to {name}/")
    if not names and (files := [path for path in _visible(folder) if path.is_file()]):
        raise FolderError(
            f"{_printable(folder)} has {len(files)} files and no class folder; put the images of each class into CLASS/"
        )
    if len(splits) == 1 and (len(names) <= 2 or any(path.is_dir() for name in splits for path in _visible(folder / name))):
        missing = "test" if "train" in splits else "train"
        raise FolderError(f"{_printable(folder)} has {splits.pop()}/ but no {missing}/; add it, or give a folder of CLASS/*")
    return {name: folder / name for name in ("train", "test")} if len(splits) == 2 else {"all": folder}


def _is_inside(path: Path, folder: str) -> bool:
    return os.path.realpath(path).startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _ignored(folder: Path, splits: dict[str, Path]) -> list[str]:
    """A note on the files and folders that are not read, because they lie where classes or splits are expected."""
    others = [path for path in _visible(folder) if "all" not in splits and path not in splits.values()]
    others += [path for place in splits.values() for path in _visible(place) if path.is_file() and path not in others]
    if not others:
        return []
    examples = ", ".join(_printable(path.relative_to(folder)) for path in others[:3]) + ("" if len(others) <= 3 else ", …")
    return [f"not read, because outside the class folders: {examples} ({len(others)} in all)"]


def _list_files(split: Path, top: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each class of a split, and its faults: folders within classes, and links that lead out of the folder."""
    files: dict[str, list[Path]] = {}
    faults = []
    inside = os.path.realpath(top)
    for entry in _visible(split):
        for path in [entry, *(_visible(entry) if entry.is_dir() and _is_inside(entry, inside) else [])]:
            if not path.exists():
                faults.append(f"{_printable(path)} is a broken link; delete it, or put the file in its place")
            elif not _is_inside(path, inside):
                faults.append(f"{_printable(path)} is a link to a place outside the folder; copy the file into the folder")
            elif path is not entry and not path.is_file():
                faults.append(f"{_printable(path)} is not a file; a class folder may contain only image files")
            elif path is not entry:
                files.setdefault(entry.name, []).append(path)
            elif path.is_dir():
                files.setdefault(entry.name, [])
    return files, faults


def _open(path: Path) -> Image.Image:
    """The file, opened but not decoded. Pillow does not warn of large images, since `LARGEST` limits them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=FORMATS)


def _decode(path: Path) -> tuple[Image.Image, Image.Image]:
    """The image as Pillow decodes it, turned upright, and in 8 bits. FolderError, of one line, if the file is not usable."""
    try:
        with _open(path) as image:
            width, height = image.size
            if width * height > LARGEST:
                raise FolderError(
                    f"{_printable(path)} has {width}×{height} pixels, the limit is {LARGEST // 10**6} million; make it smaller"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise FolderError(f"{_printable(path)} has {image.n_frames} pictures; one is expected")
            # Pillow before 10.3 reads 16-bit PNG files as mode I; of other files its pixels have 32 bits, or a sign.
            if image.mode not in _GREY + _COLOUR or (image.mode == "I" and image.format != "PNG"):
                raise FolderError(
                    f"{_printable(path)} has pixels of type {image.mode}; save it with 8 or 16 bits per channel, without sign"
                )
            if "transparency" in image.info and image.tile[0][3] in _CHANGED_ON_READING:
                raise FolderError(
                    f"{_printable(path)} has a transparent colour of 2, 4 or 16 bits per channel; save it with an alpha channel"
                )
            image.load()
            upright = ImageOps.exif_transpose(image)
            return upright, _to_8_bits(upright)
    except FolderError:
        raise
    except Exception as error:  # Pillow's readers raise anything for a damaged file
        allowed = ", ".join(FORMATS)
        reason = schema.one_line(str(error) or type(error).__name__).replace(str(path), "it")
        raise FolderError(f"{_printable(path)} cannot be read as {allowed} ({reason})") from None


def _to_8_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits per channel, mode L or RGB; a transparent image is laid over white."""
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        pixels = np.where(pixels == image.info.get("transparency"), 65535, pixels)
        return Image.fromarray(np.round(pixels / 257).astype(np.uint8))
    if image.has_transparency_data:
        grey = image.mode in _GREY
        foreground = image.convert("RGBA")
        background = Image.new("RGBA", foreground.size, "white")
        return Image.alpha_composite(background, foreground).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in _GREY else "RGB")


def _is_grey(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return image.mode == "L" or bool((pixels[..., :1] == pixels).all())


def _side(size: int | None, shapes: list[tuple[int, int]]) -> int:
    """The side of the squares, in pixels: `size`, or inferred from the sizes of the files."""
    if size is not None:
        if not 8 <= size <= LARGEST_SIDE or size % 4:
            raise FolderError(f"--size must be a multiple of 4 from 8 to {LARGEST_SIDE}, given {size}")
        return size
    median = int(np.median([min(shape) for shape in shapes]))
    return INFERRED_SIDE if median > LARGEST_SIDE else max(8, median // 4 * 4)


def _channels(colour: str, modes: dict[str, str], all_equal: bool) -> str:
    """`L` or `RGB`: as `colour` says, or inferred from the files; `modes` names a file of each mode."""
    if colour not in COLOURS:
        raise FolderError(f"unknown --colour {colour!r}; allowed: {', '.join(COLOURS)}")
    if colour != "auto":
        return {"grey": "L", "rgb": "RGB"}[colour]
    if len(modes) == 2 and not all_equal:
        raise FolderError(
            f"grey and colour images are mixed: {modes['L']} is grey, {modes['RGB']} is in colour; convert all with "
            f"--colour grey or --colour rgb"
        )
    return "L" if all_equal else "RGB"


@dataclass
class _Reading:
    """The images that could be read, each with its split and class, and notes on the files."""

    keys: list[tuple[str, str]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    conversions: Counter = field(default_factory=Counter)  # how many images were converted, by what was done
    modes: dict[str, str] = field(default_factory=dict)  # a file of each mode


def _read(files: list[tuple[tuple[str, str], Path]], side: int, skip: bool) -> _Reading:
    """Decode and resize, one file at a time: photographs at their full size would not fit in memory together."""
    reading = _Reading()
    for key, path in tqdm(files, desc="reading", unit="image", mininterval=1.0):
        try:
            decoded, image = _decode(path)
        except FolderError as fault:
            if not skip:
                raise FolderError(f"{fault}; --skip-unreadable leaves such files out") from None
            reading.faults.append(str(fault))
            continue
        reading.conversions["with 16-bit grey pixels: divided by 257"] += decoded.mode.startswith("I")
        reading.conversions["with transparency: laid over white"] += decoded.has_transparency_data
        reading.modes.setdefault(image.mode, _printable(path))
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        reading.keys.append(key)
        reading.images.append(image)
    return reading


def _shapes(files: list[tuple[tuple[str, str], Path]]) -> list[tuple[int, int]]:
    """Width and height of each file that begins like an image; the others raise an error when they are decoded."""
    shapes = []
    for _, path in files:
        with suppress(Exception), _open(path) as image:
            shapes.append(image.size)
    return shapes


def _endings(files: list[Path]) -> str:
    """What files there are, by the endings of their names, and the formats that are read."""
    counts = Counter(_printable(path.suffix.lower()) or "without an ending" for path in files)
    found = ", ".join(f"{count} {ending}" for ending, count in counts.most_common(5)) + (", …" if len(counts) > 5 else "")
    return f"its files: {found}; allowed: {', '.join(FORMATS)}"


def _class_names(splits: dict[str, dict[str, list[Path]]], folder: Path) -> list[str]:
    """The classes, in alphabetical order. FolderError if a split or a class has no image, or if there are too few classes."""
    first, *others = splits.values()
    classes = sorted(first)
    if not classes or not any(first.values()):
        raise FolderError(f"{_printable(folder)} has no image; give a folder of CLASS/*, or of train/CLASS/* and test/CLASS/*")
    if len(classes) < 2:
        raise FolderError(
            f"{_printable(folder)} has one class, {_printable(classes[0])}; at least 2 are needed, each in its own folder"
        )
    for split, files in splits.items():
        if not any(files.values()):
            raise FolderError(f"{split}/ of {_printable(folder)} has no image; give {split}/CLASS/*, or a folder of CLASS/*")
        for name in sorted(files):
            if not files[name]:
                raise FolderError(f"class {_printable(name)} has no image ({split}); add some, or delete its folder")
    for other in others:
        if unknown := sorted(set(other) - set(classes)):
            raise FolderError(
                f"class {_printable(unknown[0])} is in test/ but not in train/; add it to train/, or delete it from test/"
            )
    return classes


def load(path: Path | str, size: int | None = None, *, colour: str = "auto", skip: bool = False, seed: int = 0) -> Folder:
    """The data set in a folder, images `N×C×size×size` in 8 bits, C = 1 or 3.

    - `size`: a multiple of 4, at most 64; by default the median of the files' shorter sides, or 32 where that is above 64.
    - `colour`: `auto`, or `grey` or `rgb` to convert all images.
    - `skip`: leave out files that cannot be read, and note them, instead of raising an error.
    - `seed` decides the split of `CLASS/*`: a fifth of each class is for testing, and identical images stay in one split.

    Raises FolderError for a folder that is not such a set; its message is one line and says what is wrong and what would help.
    """
    folder = Path(path)
    _side(size, [(8, 8)]), _channels(colour, {}, True)  # wrong options raise before the files are read
    files_of, faults, splits = {}, [], _splits(folder)
    for split, split_folder in splits.items():
        files_of[split], split_faults = _list_files(split_folder, folder)
        faults += split_faults
    if faults and not skip:
        raise FolderError(f"{faults[0]}; --skip-unreadable leaves such files out")
    classes = _class_names(files_of, folder)
    files = [
        ((split, name), file) for split, by_class in files_of.items() for name in sorted(by_class) for file in by_class[name]
    ]
    shapes = _shapes(files)
    if not shapes:
        found = _endings([path for _, path in files])
        raise FolderError(f"{_printable(folder)} has no image that can be read ({found}); convert them")
    side = _side(size, shapes)
    reading = _read(files, side, skip)
    faults += reading.faults
    counts = Counter(reading.keys)
    for key in dict.fromkeys(key for key, _ in files):
        if not counts[key]:
            found = _endings([path for other, path in files if other == key])
            raise FolderError(
                f"class {_printable(key[1])} has no image that can be read ({found}); convert them, or delete its folder"
            )
    mode = _channels(colour, reading.modes, all(map(_is_grey, reading.images)))
    pixels = np.stack([_pixels(image, mode) for image in reading.images])
    labels = np.array([classes.index(name) for _, name in reading.keys])
    notes = [*(f"left out: {fault}" for fault in faults), *_ignored(folder, splits)]
    notes += [f"{counted(count, 'image')} {what}" for what, count in sorted(reading.conversions.items()) if count]
    if set(shapes) != {(side, side)}:
        small, large = min(shapes, key=np.prod), max(shapes, key=np.prod)
        sizes = f"{small[0]}×{small[1]}" + (f" to {large[0]}×{large[1]}" if small != large else "")
        notes.append(f"images of {sizes} pixels were resized to {side}×{side} (bicubic filter with antialiasing)")
    groups = _groups(pixels)
    if len(files_of) == 1:
        in_test = _split(labels, groups, classes, seed)
        notes.append(f"{TEST_SHARE:.0%} of each class is set aside for testing (seed {seed})")
    else:
        in_test = np.array([split == "test" for split, _ in reading.keys])
    notes += _warnings(labels, groups, in_test, classes)
    name = _printable(folder.resolve().name)
    parts = [ImageSet(torch.from_numpy(pixels[mask]), torch.from_numpy(labels[mask]), name) for mask in (~in_test, in_test)]
    digest = hashlib.sha256(repr([classes, pixels.shape]).encode("utf-8", "replace"))
    for part in parts:
        digest.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
    return Folder(name, [_printable(label) for label in classes], *parts, digest.hexdigest(), notes)


def _pixels(image: Image.Image, mode: str) -> np.ndarray:
    """C×side×side, uint8."""
    pixels = np.asarray(image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _groups(pixels: np.ndarray) -> np.ndarray:
    """A number for each image; identical images have the same number."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(hashlib.sha256(image.tobytes()).digest(), len(numbers)) for image in pixels])


def _split(labels: np.ndarray, groups: np.ndarray, classes: list[str], seed: int) -> np.ndarray:
    """Which images are for testing: whole groups of identical images, until they make up a fifth of each class.

    A group that is in several classes is for training. FolderError for a class with fewer than two distinct images.
    """
    random = np.random.default_rng(seed)
    sizes, ambiguous, in_test = np.bincount(groups), _in_several_classes(labels, groups), np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        class_groups = np.setdiff1d(groups[labels == label], ambiguous)
        if len(class_groups) < 2:
            distinct, count = counted(len(class_groups), "distinct image"), counted((labels == label).sum(), "file")
            raise FolderError(
                f"class {_printable(name)} has {distinct} that no other class has ({count}); at least 2 are "
                f"needed, one for training and one for testing"
            )
        wanted = max(1, round(TEST_SHARE * (labels == label).sum()))
        taken = 0
        for group in random.permutation(class_groups)[:-1]:  # the last is for training
            if taken >= wanted:
                break
            in_test |= groups == group
            taken += sizes[group]
    return in_test


def _in_several_classes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The groups of identical images that are in more than one class."""
    return np.flatnonzero(np.bincount(np.unique(np.stack([groups, labels]), axis=1)[0]) > 1)


def _warnings(labels: np.ndarray, groups: np.ndarray, in_test: np.ndarray, classes: list[str]) -> list[str]:
    """Notes on faults of the set that can make accuracies wrong."""
    notes = []
    if leaked := int(np.isin(groups[in_test], groups[~in_test]).sum()):
        notes.append(f"{counted(leaked, 'test image')} identical to a training image: accuracies may be too high")
    if conflicts := len(_in_several_classes(labels, groups)):
        notes.append(f"{counted(conflicts, 'image')} in more than one class: no network can be right on all copies")
    untested = [_printable(name) for label, name in enumerate(classes) if not (labels[in_test] == label).any()]
    if untested:
        notes.append(f"no test image of class {', '.join(untested)}")
    return notes
