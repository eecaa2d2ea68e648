"""Reads a folder of images as a data set: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`, which it splits.

- PNG, JPEG, WebP and TIFF are read, nothing else. A file is turned as its EXIF orientation says.
- 16-bit grey is divided by 257, so that 65535 becomes 255, whatever the brightest pixel is. 16-bit colour keeps its high byte,
  as Pillow reads it. 32-bit and floating-point pixels are refused: their range is not known.
- What has an alpha channel, or a transparent colour, is laid over white.
- Images are squeezed to squares of `size` pixels, once, by Pillow's bicubic filter, which antialiases.
- A set whose files are all grey, or whose colour files all hold three equal channels, has one channel; else three.
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
from lib.store import schema

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
LARGEST = 32_000_000  # pixels of a file; a larger one takes gigabytes to decode
LARGEST_SIDE = 64  # of the images that networks are trained on
INFERRED_SIDE = 32  # where the files are larger than that
TEST_SHARE = 0.2
COLOURS = ("auto", "grey", "rgb")
_GREY, _COLOUR = (
    ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I"),
    ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"),
)
_JUNK = ("Thumbs.db", "desktop.ini", "__MACOSX")


class FolderError(ValueError):
    """The folder is not a data set."""


@dataclass(frozen=True)
class Folder:
    """A data set read from a folder."""

    name: str
    classes: list[str]
    train: ImageSet
    test: ImageSet
    digest: str  # sha256 of classes, pixels and labels of both splits: the identity of the set
    notes: list[str] = field(default_factory=list)  # what was done to it, and what is odd about it

    @property
    def channels(self) -> int:
        """1 (grey) or 3."""
        return self.train.images.shape[1]

    @property
    def side(self) -> int:
        """Height and width of the images."""
        return self.train.images.shape[2]


def _shown(path: Path | str) -> str:
    """A path for a message: one line, whatever is in the name."""
    return schema.one_line(str(path).encode("utf-8", "replace").decode())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _JUNK)


def _splits(folder: Path) -> dict[str, Path]:
    """Of each split its folder; `all` where the classes lie in the folder itself."""
    if not folder.is_dir():
        said = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{_shown(folder)} {said}; give a folder of CLASS/*, or of train/CLASS/* and test/CLASS/*")
    names = {path.name for path in _visible(folder) if path.is_dir()}
    found = {name for name in ("train", "test") if name in names}
    if len(found) == 1 and len(names) <= 2:
        lacking = "test" if "train" in found else "train"
        raise FolderError(f"{_shown(folder)} holds {found.pop()}/ and no {lacking}/; add it, or give a folder of CLASS/*")
    return {name: folder / name for name in ("train", "test")} if len(found) == 2 else {"all": folder}


def _is_inside(path: Path, folder: str) -> bool:
    return os.path.realpath(path).startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _beside(folder: Path, splits: dict[str, Path]) -> list[str]:
    """What lies where classes or splits are expected and is not read, as a note."""
    others = [path for path in _visible(folder) if "all" not in splits and path not in splits.values()]
    others += [path for place in splits.values() for path in _visible(place) if path.is_file() and path not in others]
    if not others:
        return []
    shown = ", ".join(_shown(path.relative_to(folder)) for path in others[:3]) + ("" if len(others) <= 3 else ", …")
    return [f"not read, {len(others)} beside the folders of classes: {shown}"]


def _listed(place: Path, top: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each class of a split, and what is wrong with it: folders within classes, links out of the folder."""
    files: dict[str, list[Path]] = {}
    faults = []
    inside = os.path.realpath(top)
    for entry in _visible(place):
        for path in [entry, *(_visible(entry) if entry.is_dir() and _is_inside(entry, inside) else [])]:
            if not path.exists():
                faults.append(f"{_shown(path)} is a link to nothing; delete it, or copy the file to its place")
            elif not _is_inside(path, inside):
                faults.append(f"{_shown(path)} is a link out of the folder; copy the file into it")
            elif path is not entry and not path.is_file():
                faults.append(f"{_shown(path)} is not a file; a class is a folder of images, without folders in it")
            elif path is not entry:
                files.setdefault(entry.name, []).append(path)
            elif path.is_dir():
                files.setdefault(entry.name, [])
    return files, faults


def _open(path: Path) -> Image.Image:
    """Pillow's view of a file that begins like an image; how large it is, is judged by `LARGEST`, without Pillow's warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=FORMATS)


def _opened(path: Path) -> Image.Image:
    """The image as Pillow decodes it, turned upright. FolderError, of one line, for what is not one usable image."""
    try:
        with _open(path) as opened:
            width, height = opened.size
            if width * height > LARGEST:
                raise FolderError(
                    f"{_shown(path)} has {width}×{height} pixels, at most {LARGEST // 10**6} million are read; make it smaller"
                )
            if getattr(opened, "n_frames", 1) > 1:
                raise FolderError(f"{_shown(path)} holds {opened.n_frames} pictures; one is expected")
            if opened.mode not in _GREY + _COLOUR:
                raise FolderError(f"{_shown(path)} has pixels of type {opened.mode}; save it with 8 or 16 bits a channel")
            opened.load()
            return ImageOps.exif_transpose(opened)
    except FolderError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        allowed = ", ".join(FORMATS)
        said = schema.one_line(str(error)).replace(str(path), "it")
        raise FolderError(f"{_shown(path)} cannot be read as {allowed} ({said})") from None


def _plain(image: Image.Image, path: Path) -> Image.Image:
    """8 bits, mode L or RGB; what is transparent is laid over white."""
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 65535:
            raise FolderError(f"{_shown(path)} has 32-bit pixels; save it with 8 or 16 bits a channel")
        return Image.fromarray(np.round(pixels / 257).astype(np.uint8))
    if image.has_transparency_data:
        grey = image.mode in _GREY
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(under, over).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in _GREY else "RGB")


def _is_grey(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return image.mode == "L" or bool((pixels[..., :1] == pixels).all())


def _side(size: int | None, shapes: list[tuple[int, int]]) -> int:
    """The side of the squares: as asked for, or inferred from the files' sizes."""
    if size is not None:
        if not 8 <= size <= LARGEST_SIDE or size % 4:
            raise FolderError(f"--size must be a multiple of 4 from 8 to {LARGEST_SIDE}, given {size}")
        return size
    median = int(np.median([min(shape) for shape in shapes]))
    return INFERRED_SIDE if median > LARGEST_SIDE else max(8, median // 4 * 4)


def _channels(colour: str, modes: dict[str, str], all_equal: bool) -> str:
    """`L` or `RGB`, by what is asked for or what the files are; `modes` names a file of each mode."""
    if colour not in COLOURS:
        raise FolderError(f"unknown --colour {colour!r}; allowed: {', '.join(COLOURS)}")
    if colour != "auto":
        return {"grey": "L", "rgb": "RGB"}[colour]
    if len(modes) == 2 and not all_equal:
        raise FolderError(
            f"grey and colour are mixed: {modes['L']} is grey, {modes['RGB']} is in colour; --colour grey or "
            f"--colour rgb makes all alike"
        )
    return "L" if all_equal else "RGB"


@dataclass
class _Reading:
    """The images that could be read, each with its split and class, and what was met on the way."""

    keys: list[tuple[str, str]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)
    modes: dict[str, str] = field(default_factory=dict)  # a file of each mode


def _read(files: list[tuple[tuple[str, str], Path]], side: int, skip: bool) -> _Reading:
    """Decode and resize, one file at a time: photographs at their full size would not fit in memory together."""
    found = _Reading()
    for key, path in tqdm(files, desc="reading", unit="image", mininterval=1.0):
        try:
            opened = _opened(path)
            image = _plain(opened, path)
        except FolderError as fault:
            if not skip:
                raise FolderError(f"{fault}; --skip-unreadable leaves such files out") from None
            found.faults.append(str(fault))
            continue
        found.kinds["16 bits"] += opened.mode.startswith("I")
        found.kinds["transparency"] += opened.has_transparency_data
        found.modes.setdefault(image.mode, _shown(path))
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        found.keys.append(key)
        found.images.append(image)
    return found


def _shapes(files: list[tuple[tuple[str, str], Path]]) -> list[tuple[int, int]]:
    """Width and height of each file that begins like an image; the others are told of when they are read."""
    shapes = []
    for _, path in files:
        with suppress(OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError), _open(path) as opened:
            shapes.append(opened.size)
    return shapes


def _names(listed: dict[str, dict[str, list[Path]]], folder: Path) -> list[str]:
    """The classes, in alphabetical order. FolderError where they cannot be learnt or told."""
    first, *others = listed.values()
    classes = sorted(first)
    if not classes or not any(first.values()):
        raise FolderError(f"{_shown(folder)} holds no image; give a folder of CLASS/*, or of train/CLASS/* and test/CLASS/*")
    if len(classes) < 2:
        raise FolderError(f"{_shown(folder)} holds one class, {_shown(classes[0])}; at least 2 are needed, a folder each")
    for split, files in listed.items():
        if not any(files.values()):
            raise FolderError(f"{split}/ of {_shown(folder)} holds no image; give {split}/CLASS/*, or a folder of CLASS/*")
        for name in sorted(files):
            if not files[name]:
                raise FolderError(f"class {_shown(name)} holds no image ({split}); add some, or delete its folder")
    for other in others:
        if unknown := sorted(set(other) - set(classes)):
            raise FolderError(
                f"test/ has a class that train/ lacks: {_shown(unknown[0])}; add it to train/, or delete it from test/"
            )
    return classes


def load(path: Path | str, size: int | None = None, *, colour: str = "auto", skip: bool = False, seed: int = 0) -> Folder:
    """The data set in a folder, images `N×C×size×size` in 8 bits, C = 1 or 3.

    - `size`: a multiple of 4, at most 64; by default the median of the files' shorter sides, or 32 where that is above 64.
    - `colour`: `auto`, or `grey` or `rgb` to make all images so.
    - `skip`: leave out what cannot be read, and note it, instead of raising.
    - `seed` decides the split of `CLASS/*`: a fifth of each class is for testing, and equal pixels stay on one side.

    Raises FolderError, of one line, for a folder that is not such a set; it says what is wrong, and what would do.
    """
    folder = Path(path)
    _side(size, [(8, 8)]), _channels(colour, {}, True)  # judged before the files are read
    listed, faults, splits = {}, [], _splits(folder)
    for split, place in splits.items():
        listed[split], found = _listed(place, folder)
        faults += found
    if faults and not skip:
        raise FolderError(f"{faults[0]}; --skip-unreadable leaves such files out")
    classes = _names(listed, folder)
    files = [((split, name), file) for split, of in listed.items() for name in sorted(of) for file in of[name]]
    shapes = _shapes(files)
    side = _side(size, shapes)
    read = _read(files, side, skip)
    faults += read.faults
    left = Counter(read.keys)
    for key in dict.fromkeys(key for key, _ in files):
        if not left[key]:
            raise FolderError(f"class {_shown(key[1])} holds no image that can be read; add some, or delete its folder")
    mode = _channels(colour, read.modes, all(map(_is_grey, read.images)))
    pixels = np.stack([_pixels(image, mode) for image in read.images])
    labels = np.array([classes.index(name) for _, name in read.keys])
    notes = [*(f"left out: {fault}" for fault in faults), *_beside(folder, splits)]
    notes += [
        f"{count} images have {kind}, read as the documentation says" for kind, count in sorted(read.kinds.items()) if count
    ]
    if set(shapes) != {(side, side)}:
        small, large = min(shapes, key=np.prod), max(shapes, key=np.prod)
        sizes = f"{small[0]}×{small[1]}" + (f" to {large[0]}×{large[1]}" if small != large else "")
        notes.append(f"images of {sizes} pixels were made {side}×{side}, by a bicubic filter that antialiases")
    groups = _groups(pixels)
    if len(listed) == 1:
        in_test = _split(labels, groups, classes, seed)
        notes.append(f"{TEST_SHARE:.0%} of each class was set aside for testing (seed {seed})")
    else:
        in_test = np.array([split == "test" for split, _ in read.keys])
    notes += _oddities(labels, groups, in_test, classes)
    named, sides = _shown(folder.resolve().name), (~in_test, in_test)
    parts = [ImageSet(torch.from_numpy(pixels[which]), torch.from_numpy(labels[which]), named) for which in sides]
    digest = hashlib.sha256(repr([classes, pixels.shape]).encode("utf-8", "replace"))
    for part in parts:
        digest.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
    return Folder(named, [_shown(name) for name in classes], *parts, digest.hexdigest(), notes)


def _pixels(image: Image.Image, mode: str) -> np.ndarray:
    """C×side×side, uint8."""
    pixels = np.asarray(image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _groups(pixels: np.ndarray) -> np.ndarray:
    """A number for each image; images with the same pixels have the same."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(hashlib.sha256(image.tobytes()).digest(), len(seen)) for image in pixels])


def _split(labels: np.ndarray, groups: np.ndarray, classes: list[str], seed: int) -> np.ndarray:
    """Which images are for testing: of each class whole groups, until a fifth of it is reached.

    A group whose images carry several labels is for training. FolderError for a class with fewer than two different images.
    """
    random = np.random.default_rng(seed)
    sizes, several, in_test = np.bincount(groups), _of_several_labels(labels, groups), np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        own = np.setdiff1d(groups[labels == label], several)
        if len(own) < 2:
            raise FolderError(
                f"class {_shown(name)} holds {(labels == label).sum()} images of {len(own)} different pixels; at least 2 "
                f"different ones are needed, one to train on and one to test on"
            )
        wanted = max(1, round(TEST_SHARE * (labels == label).sum()))
        taken = 0
        for group in random.permutation(own)[:-1]:  # one is left to train on
            if taken >= wanted:
                break
            in_test |= groups == group
            taken += sizes[group]
    return in_test


def _of_several_labels(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The groups, of equal pixels, that carry more than one label."""
    return np.flatnonzero(np.bincount(np.unique(np.stack([groups, labels]), axis=1)[0]) > 1)


def _oddities(labels: np.ndarray, groups: np.ndarray, in_test: np.ndarray, classes: list[str]) -> list[str]:
    """What a reader of the numbers should know of the set."""
    notes = []
    if leaked := int(np.isin(groups[in_test], groups[~in_test]).sum()):
        notes.append(f"{leaked} test images have the very pixels of a training image: accuracies may be too high")
    if conflicts := len(_of_several_labels(labels, groups)):
        notes.append(f"{conflicts} pictures carry more than one label")
    untested = [_shown(name) for label, name in enumerate(classes) if not (labels[in_test] == label).any()]
    if untested:
        notes.append(f"no test image of {', '.join(untested)}")
    return notes
