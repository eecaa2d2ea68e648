"""A folder of images, its changes and the plan: what is read, what is refused, and in which words."""

import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.sensitivity import changes, command, folder, plan
from lib.sensitivity.changes import ChangeError
from lib.sensitivity.folder import FolderError


def save(path: Path, seed: int = 0, side: int = 8, colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side, 3) if colour else (side, side)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def images(tmp_path) -> Path:
    """Two classes of ten grey images of 8×8 pixels."""
    for label in ("cat", "dog"):
        for i in range(10):
            save(tmp_path / "set" / label / f"{i}.png", 100 * len(label) + i + (label == "dog") * 50)
    return tmp_path / "set"


def test_a_folder_of_classes_is_split_within_each(images):
    found = folder.load(images)
    assert found.classes == ["cat", "dog"]
    assert (found.channels, found.side, len(found.train), len(found.test)) == (1, 8, 16, 4)
    assert found.test.labels.bincount().tolist() == [2, 2]
    assert found.digest == folder.load(images).digest
    assert found.digest != folder.load(images, seed=1).digest
    assert not {i.numpy().tobytes() for i in found.train.images} & {i.numpy().tobytes() for i in found.test.images}


def test_equal_pixels_stay_on_one_side(tmp_path):
    for label in ("a", "b"):
        for i in range(20):
            save(tmp_path / "set" / label / f"{i}.png", i // 4 + (label == "b") * 100)
    found = folder.load(tmp_path / "set")
    assert len(found.test)
    assert not {i.numpy().tobytes() for i in found.train.images} & {i.numpy().tobytes() for i in found.test.images}


def test_train_and_test_are_kept_and_leaks_are_told(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for label in ("a", "b"):
            for i in range(count):
                save(tmp_path / "set" / split / label / f"{i}.png", i + 10 * (label == "b"))
    found = folder.load(tmp_path / "set")
    assert (len(found.train), len(found.test)) == (8, 4)
    assert any("4 test images identical to a training image" in note for note in found.notes)


def test_sixteen_bits_transparency_and_palettes(tmp_path):
    for label in ("a", "b"):
        place = tmp_path / "set" / label
        place.mkdir(parents=True)
        for i in range(4):
            values = np.full((8, 8), 65535 if i == 0 else 257 * (10 * i + (label == "b")), np.uint16)
            Image.fromarray(values).save(place / f"{i}.png")
    found = folder.load(tmp_path / "set")
    pixels = {int(image.max()) for part in (found.train, found.test) for image in part.images}
    assert pixels == {255, 10, 20, 30, 11, 21, 31}
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    laid = folder._to_8_bits(Image.open(tmp_path / "clear.png"))
    assert np.asarray(laid).min() == 255


def png(depth: int, colour_type: int, row: bytes, transparent: bytes = b"") -> bytes:
    """A PNG file of 8×8 pixels with eight equal rows, which Pillow does not write."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 8, 8, depth, colour_type, 0, 0, 0)} | (
        {b"tRNS": transparent} if transparent else {}
    )
    chunks |= {b"IDAT": zlib.compress(8 * (b"\0" + row)), b"IEND": b""}
    packed = [struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


VALUES = [257 * i for i in range(8)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(16, 0, struct.pack(">8H", *VALUES)), range(8)),
        (png(16, 0, struct.pack(">8H", *VALUES), struct.pack(">H", VALUES[5])), [0, 1, 2, 3, 4, 255, 6, 7]),
        (
            png(16, 4, struct.pack(">16H", *(v for i in range(8) for v in (257 * i, 65535 * (i != 5))))),
            [0, 1, 2, 3, 4, 255, 6, 7],
        ),
        (png(8, 0, bytes(range(8)), b"\0\5"), [0, 1, 2, 3, 4, 255, 6, 7]),
    ],
    ids=["16 bits", "16 bits and a transparent value", "16 bits and alpha", "8 bits and a transparent value"],
)
def test_transparent_grey_of_any_depth_is_laid_over_white(tmp_path, content, expected):
    (tmp_path / "a.png").write_bytes(content)
    _, image = folder._decode(tmp_path / "a.png")
    assert np.asarray(image.convert("L"))[0].tolist() == [*expected]


@pytest.mark.parametrize(("name", "options"), [("a.jpg", {}), ("a.webp", {"lossless": True}), ("a.tiff", {}), ("a.png", {})])
def test_formats(images, name, options):
    Image.new("L", (40, 30), 7).save(images / "cat" / name, **options)
    found = folder.load(images, 8)
    assert sum(len(part) for part in (found.train, found.test)) == 21
    assert any("8×8 to 40×30 pixels were resized to 8×8" in note for note in found.notes)


def test_resizing_antialiases(tmp_path):
    """A chequerboard of single pixels becomes grey, not black or white."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    for label in ("a", "b"):
        for i in range(3):
            path = tmp_path / "set" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((board // (1 + i + 3 * (label == "b"))).astype(np.uint8)).save(path)
    found = folder.load(tmp_path / "set", 8)
    brightest = max(int(part.images.max()) for part in (found.train, found.test))
    assert 100 < brightest < 160


def _empty(place: Path) -> None:
    for path in [*place.rglob("*.png")]:
        path.unlink()
    for path in [*place.iterdir()]:
        path.rmdir()


def _one_class(place: Path) -> None:
    for path in [*(place / "dog").iterdir()]:
        path.unlink()
    (place / "dog").rmdir()


def _one_image(place: Path) -> None:
    for path in sorted((place / "dog").iterdir())[1:]:
        path.unlink()


def _same_pixels(place: Path) -> None:
    for path in (place / "dog").iterdir():
        save(path, 3)


def _text(place: Path) -> None:
    (place / "cat" / "notes.txt").write_text("not an image")


def _truncated(place: Path) -> None:
    file = save(place / "cat" / "big.png", side=64)
    file.write_bytes(file.read_bytes()[:900])


def _large(place: Path) -> None:
    Image.new("1", (8000, 5000)).save(place / "cat" / "large.png")


def _link(place: Path) -> None:
    save(place.parent / "outside.png")
    (place / "cat" / "link.png").symlink_to(place.parent / "outside.png")


def _linked_class(place: Path) -> None:
    save(place.parent / "elsewhere" / "outside.png")
    (place / "cow").symlink_to(place.parent / "elsewhere")


def _loop(place: Path) -> None:
    (place / "cat" / "loop.png").symlink_to("loop.png")


def _loop_of_a_class(place: Path) -> None:
    (place / "cow").symlink_to("cow")


def _link_to_nothing(place: Path) -> None:
    (place / "cat" / "gone.png").symlink_to(place / "cat" / "nowhere.png")


def _enormous(place: Path) -> None:
    """A PNG that says it has more pixels than Pillow warns of, and fewer than it refuses."""
    file = save(place / "cat" / "enormous.png")
    head = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    file.write_bytes(file.read_bytes()[:12] + head + struct.pack(">I", zlib.crc32(head)) + file.read_bytes()[33:])


def _no_test(place: Path) -> None:
    (place.parent / "of").mkdir()
    place.rename(place.parent / "of" / "train")
    (place.parent / "of").rename(place)
    (place / "test").mkdir()


def _mixed(place: Path) -> None:
    save(place / "cat" / "colour.png", colour=True)


def _nested(place: Path) -> None:
    save(place / "cat" / "more" / "a.png")


def _capitals(place: Path) -> None:
    (place / "Test").mkdir()
    (place / "cat").rename(place / "Test" / "cat")


def _validation(place: Path) -> None:
    for name in ("train", "val", "extra"):
        save(place / name / "cat" / "a.png")


def _loose(place: Path) -> None:
    for label in ("cat", "dog"):
        shutil.rmtree(place / label)
    for i in range(3):
        save(place / f"{i}.png")


def _empty_class(place: Path) -> None:
    (place / "cow").mkdir()


def _train_alone(place: Path) -> None:
    (place / "cat").rename(place / "train")
    _one_class(place)


def _animated(place: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(place / "cat" / "film.tiff", save_all=True, append_images=frames[1:])


def _float(place: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(place / "cat" / "float.tiff")


def _int(place: Path) -> None:
    Image.fromarray(np.full((8, 8), 255, np.int32)).save(place / "cat" / "int.tiff")


def _transparent_colour(place: Path) -> None:
    row, value = struct.pack(">24H", *(1000 * (i // 3) for i in range(24))), struct.pack(">3H", 5000, 5000, 5000)
    (place / "cat" / "colour.png").write_bytes(png(16, 2, row, value))


def _transparent_of_4_bits(place: Path) -> None:
    (place / "cat" / "four.png").write_bytes(png(4, 0, bytes([0x01, 0x23, 0x45, 0x67]), b"\0\5"))


def _without_dimensions(place: Path) -> None:
    """A TIFF with a second picture that has no width, for which Pillow raises a TypeError."""
    _animated(place)
    file, width = place / "cat" / "film.tiff", struct.pack("<HH", 256, 4)
    before, _, after = file.read_bytes().rpartition(width)
    file.write_bytes(before + struct.pack("<HH", 250, 4) + after)


def _bad_exif(place: Path) -> None:
    """A JPEG whose EXIF data Pillow cannot write again once the image is turned: it raises a struct.error."""
    exif = Image.Exif()
    exif[274], exif[256] = 6, 8
    content = exif.tobytes().replace(struct.pack(">HH", 256, 4), struct.pack(">HH", 256, 2))
    Image.new("L", (8, 8)).save(place / "cat" / "exif.jpg", exif=content)


def _other_formats(place: Path) -> None:
    for file in [*place.rglob("*.png")]:
        Image.open(file).save(file.with_suffix(".gif"))
        file.unlink()
    (place / "cat" / "0.gif").rename(place / "cat" / "0.HEIC")


def _unknown_in_test(place: Path) -> None:
    train = place / "train"
    train.mkdir()
    for label in ("cat", "dog"):
        (place / label).rename(train / label)
    for label in ("cat", "cow"):
        save(place / "test" / label / "0.png", 9)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_empty, "has no image; give a folder of CLASS/*"),
        (_one_class, "has one class, cat; at least 2 are needed"),
        (_one_image, "class dog has 1 distinct image that no other class has (1 file); at least 2 are needed"),
        (_same_pixels, "class dog has 1 distinct image that no other class has (10 files)"),
        (_text, "notes.txt cannot be read as PNG, JPEG, WEBP, TIFF"),
        (_truncated, "big.png cannot be read as PNG"),
        (_large, "large.png has 8000×5000 pixels, the limit is 32 million; make it smaller"),
        (_link, "link.png is a link to a place outside the folder; copy the file into the folder"),
        (_linked_class, "cow is a link to a place outside the folder"),
        (_loop, "loop.png is a broken link; delete it"),
        (_loop_of_a_class, "cow is a broken link; delete it"),
        (_link_to_nothing, "gone.png is a broken link; delete it"),
        (_enormous, "enormous.png has 10000×10000 pixels, the limit is 32 million"),
        (_no_test, "test/ of "),
        (_mixed, "grey and colour images are mixed: "),
        (_nested, "more is not a file; a class folder may contain only image files"),
        (_capitals, "has Test/; rename it to test/"),
        (_validation, "has train/ but no test/; add it"),
        (_loose, "has 3 files and no class folder; put the images of each class into CLASS/"),
        (_empty_class, "class cow has no image"),
        (_train_alone, "has train/ but no test/; add it"),
        (_animated, "film.tiff has 2 pictures; one is expected"),
        (_float, "float.tiff has pixels of type F; save it with 8 or 16 bits per channel"),
        (_int, "int.tiff has pixels of type I; save it with 8 or 16 bits per channel, without sign"),
        (_transparent_colour, "colour.png has a transparent colour of 2, 4 or 16 bits per channel; save it with an alpha"),
        (_transparent_of_4_bits, "four.png has a transparent colour of 2, 4 or 16 bits per channel; save it with an alpha"),
        (_without_dimensions, "film.tiff cannot be read as PNG, JPEG, WEBP, TIFF ("),
        (_bad_exif, "exif.jpg cannot be read as PNG, JPEG, WEBP, TIFF ("),
        (
            _other_formats,
            "has no image that can be read (its files: 19 .gif, 1 .heic; allowed: PNG, JPEG, WEBP, TIFF); convert",
        ),
        (_unknown_in_test, "class cow is in test/ but not in train/; add it to train/"),
    ],
)
def test_what_is_no_data_set_is_one_line(images, spoil, said):
    spoil(images)
    with pytest.raises(FolderError) as refused:
        folder.load(images)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("spoil", "fault"), [(_text, "notes.txt"), (_truncated, "big.png"), (_link, "link.png")])
def test_what_cannot_be_read_is_left_out_and_named_if_asked(images, spoil, fault):
    spoil(images)
    found = folder.load(images, skip=True)
    assert len(found.train) + len(found.test) == 20
    assert any(note.startswith("left out: ") and fault in note for note in found.notes)


def test_a_class_without_a_file_that_can_be_read_names_its_formats(images):
    for file in (images / "dog").iterdir():
        Image.open(file).save(file.with_suffix(".gif"))
        file.unlink()
    said = r"class dog has no image that can be read \(its files: 10 .gif; allowed: PNG, JPEG, WEBP, TIFF\); convert them"
    with pytest.raises(FolderError, match=said):
        folder.load(images, skip=True)


def test_what_is_not_read_is_told(images):
    save(images / "loose.png")
    assert any(
        note == "not read, because outside the class folders: loose.png (1 in all)" for note in folder.load(images).notes
    )
    for split in ("train", "test", "val"):
        shutil.copytree(images, images.parent / "split" / split)
    notes = folder.load(images.parent / "split").notes
    assert any(note.startswith("not read, because outside the class folders: val, train/loose.png, ") for note in notes), notes


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(FolderError, match="nowhere does not exist; give a folder of CLASS"):
        folder.load(tmp_path / "nowhere")
    save(tmp_path / "file.png")
    with pytest.raises(FolderError, match="is a file, not a folder"):
        folder.load(tmp_path / "file.png")


@pytest.mark.parametrize("size", [4, 10, 68])
def test_a_size_out_of_range(images, size):
    with pytest.raises(FolderError, match="--size must be a multiple of 4 from 8 to 64, given"):
        folder.load(images, size)


def test_colour_is_made_alike_if_asked(images):
    _mixed(images)
    assert folder.load(images, colour="grey").channels == 1
    assert folder.load(images, colour="rgb").channels == 3


def test_a_name_of_several_lines_stays_one_line(images):
    (images / "cat" / "a\nb.txt").write_text("x")
    with pytest.raises(FolderError) as refused:
        folder.load(images)
    assert len(str(refused.value).splitlines()) == 1


X = {channels: torch.rand(3, channels, 16, 16, generator=torch.Generator().manual_seed(0)) for channels in (1, 3)}


@pytest.mark.parametrize("channels", [1, 3])
def test_every_change_gives_images(channels):
    for name in changes.descriptions(channels):
        x = X[channels].clone()
        found = changes.parse(name)(x)
        assert found.shape == x.shape
        assert torch.equal(x, X[channels])
        assert (name == changes.ORIGINAL) == torch.equal(found, x), name
        assert changes.descriptions(channels)[name].startswith(changes.parse(name).does)


def test_a_change_is_described_with_its_level():
    assert changes.parse("gamma-0.9").does == "pixel values to the power of 0.9 (a transform of the paper)"
    assert changes.parse("jpeg-75").does == "saved as JPEG with quality 75 and read again (Pillow)"
    assert changes.parse("smooth-square-5").does.startswith("average over 5×5 pixels")
    assert changes.parse("smooth-5").does.startswith("average over 5 pixels of a column")
    assert changes.parse("binarize+smooth-3").does == ", then ".join(
        changes.parse(name).does for name in ("binarize", "smooth-3")
    )


def test_the_defaults_are_listed():
    assert set(changes.DEFAULTS) <= set(changes.descriptions(1))
    assert "grey" in {change.name for change in changes.select([], 3)}
    assert [change.name for change in changes.select(["edges", "edges"], 1)] == ["original", "edges"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jpg-30", "unknown change 'jpg-30'; allowed: original, binarize"),
        ("jpeg-0", "change jpeg-QUALITY: the quality must be in"),
        ("resize-2", "change resize-FACTOR: the factor must be in"),
        ("quantise-9", "change quantise-BITS: the number of bits must be in"),
        ("gamma-0", "gamma must be > 0"),
        ("nowhere.py:f", "--change nowhere.py:f: cannot read nowhere.py (No such file or directory)"),
        ("steps.txt.py:not a name", "--change must be file.py:function"),
    ],
)
def test_a_change_that_is_none(name, said):
    with pytest.raises(ChangeError) as refused:
        changes.parse(name)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 2 * x", "must stay in [0, 1], it returned"),
        ("return x[..., ::2]", "must keep the shape (3, 1, 16, 16), it returned (3, 1, 16, 8)"),
        ("return x / 0 * 0", "must return finite numbers, it returned NaN"),
        ("return x.numpy()", "must return a float tensor of images in [0, 1], it returned a ndarray"),
        ("return (255 * x).long()", "it returned torch.int64"),
        ("raise KeyError('so')", "KeyError: 'so'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("return x.to('meta')", "must return a dense tensor that holds pixels"),
        ("return x.to_sparse()", "must return a dense tensor that holds pixels"),
    ],
)
def test_a_user_s_function_is_checked(tmp_path, body, said):
    file = tmp_path / "steps.py"
    file.write_text(f"def own(x):\n    {body}\n")
    with pytest.raises(ChangeError) as refused:
        changes.parse(f"{file}:own")(X[1])
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_user_s_function_works_and_only_its_file_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("other.py").write_text("raise RuntimeError('loaded')\n")
    Path("steps.py").write_text("def darker(x):\n    return x.mul_(0.5)\n\nvalue = 3\n")
    x = X[1].clone()
    assert torch.equal(changes.parse("steps.py:darker")(x), 0.5 * x)
    assert {path.name for path in tmp_path.iterdir()} == {"other.py", "steps.py"}
    with pytest.raises(ChangeError, match="the file has no function value; it has darker"):
        changes.parse("steps.py:value")
    Path("broken.py").write_text("def f(:\n")
    Path("leaving.py").write_text("raise SystemExit(0)\n")
    for name in ("broken", "leaving"):
        with pytest.raises(ChangeError, match="the file does not run"):
            changes.parse(f"{name}.py:f")


def test_what_a_user_s_function_learns_is_not_learnt_here(tmp_path):
    (tmp_path / "steps.py").write_text("import torch\nw = torch.ones(1, requires_grad=True)\ndef f(x):\n    return w * x\n")
    change = changes.parse(f"{tmp_path / 'steps.py'}:f")
    assert not change(X[1]).requires_grad
    assert change(X[1].clone().requires_grad_(True)).requires_grad


def test_the_attack_goes_through_a_change_and_straight_through_where_it_has_no_gradient():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
    weight = (network[1].weight[0] - network[1].weight[1]).view(1, 1, 16, 16).detach()
    for name, factor in (("rescale-0.5", 0.5), ("jpeg-30", 1.0), ("binarize", 1.0)):
        x = X[1].clone().requires_grad_(True)
        logits = changes.Preprocessed(changes.parse(name), network)(x)
        (logits[:, 0] - logits[:, 1]).sum().backward()
        assert torch.allclose(x.grad, factor * weight.expand_as(x), atol=1e-6), name


def test_epsilon_goes_by_the_pixels():
    eps, reason = plan.epsilon((torch.rand(4, 1, 8, 8) > 0.5).to(torch.uint8) * 255)
    assert eps == 0.3
    assert reason == "the usual value for nearly binary images; 100% of these pixels are nearly black or white"
    eps, reason = plan.epsilon(torch.full((4, 1, 8, 8), 128, dtype=torch.uint8))
    assert eps == 8 / 255
    share = "only 0% of these pixels are nearly black or white"
    assert reason == f"the usual value; ε = 0.3 is for nearly binary images, and {share}"


@pytest.mark.parametrize(("value", "text"), [(8 / 255, "8/255"), (1 / 255, "1/255"), (0.3, "0.3"), (0.3 / 7, "0.0429")])
def test_a_budget_is_printed_as_a_fraction_if_it_is_one(value, text):
    assert plan.in_pixel_units(value) == text


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"minutes": 0.0}, "--minutes must be > 0, given 0"),
        ({"minutes": float("nan")}, "--minutes must be > 0, given nan"),
        ({"seeds": 0}, "--seeds must be a whole number ≥ 1, given 0"),
        ({"steps": 0}, "--steps must be a whole number ≥ 1, given 0"),
        ({"eps": "8"}, r"--eps must be a number or fraction in \[1e-6, 0.5\], such as 8/255, given 8"),
        ({"eps": "1/0"}, "--eps must be a number or fraction"),
        ({"eps": "1e-320"}, "--eps must be a number or fraction"),
        ({"eps": "８/255"}, "--eps must be a number or fraction"),
        ({"widen_factor": 0.0}, r"--widen-factor must be in \(0, 16\], given 0"),
        ({"widen_factor": float("nan")}, "--widen-factor must be in"),
        ({"widen_factor": 1e9}, "--widen-factor must be in"),
        ({"lr": -1.0}, "--lr must be > 0, given -1"),
        ({"model": "resnet"}, "unknown --model 'resnet'; allowed: lenet5, wide_resnet28, file.py:factory"),
    ],
)
def test_options_out_of_range(option, said):
    with pytest.raises(ValueError, match=said):
        replace(plan.Options(), **option).check()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 3", "must return a torch.nn.Module, it returned a int"),
        ("return nn.Flatten()", "must return a network with parameters to train, it has none"),
        (
            "return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))",
            "the network must return logits of shape (2, 2) for 2 images",
        ),
        ("return nn.Linear(3, 2)", "the network fails on images (2, 1, 8, 8)"),
        ("raise OSError('no')", "the factory failed (OSError: no)"),
        ("raise SystemExit(0)", "the factory failed (SystemExit: 0)"),
    ],
)
def test_a_factory_that_returns_nonsense(tmp_path, body, said):
    file = tmp_path / "net.py"
    file.write_text(f"from torch import nn\n\ndef make(classes):\n    {body}\n")
    about = {"model": {"name": f"{file}:make"}, "image": {"in_channels": 1, "image_size": 8}, "classes": ["a", "b"]}
    with pytest.raises(ChangeError) as refused:
        plan.build(about, 0)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def about(file: Path) -> dict:
    """The part of a plan that a network is built by."""
    return {"model": {"name": f"{file}:make"}, "image": {"in_channels": 1, "image_size": 8}, "classes": ["a", "b"]}


OWN_NETWORK = """import torch
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    def forward(self, x):
        {}

def make():
    return Network()
"""


@pytest.mark.parametrize(
    "body",
    [
        "return self.body(x.round())",
        "return self.body(x.detach())",
        "return nn.functional.one_hot(self.body(x).argmax(1), 2).float()",
        "return self.body(x).round()",
        "with torch.no_grad(): return self.body(x)",
        "with torch.inference_mode(): return self.body(x)",
    ],
)
def test_a_network_without_a_gradient_to_the_pixels_is_refused_in_one_line(tmp_path, body):
    (tmp_path / "net.py").write_text(OWN_NETWORK.format(body))
    with pytest.raises(ChangeError, match=r"--model .*net.py:make: the network's logits must have a gradient") as refused:
        plan.build(about(tmp_path / "net.py"), 0)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "body",
    [
        "return self.body(x)",
        "return self.body(x).softmax(1)",
        "return self.body(x) * torch.tensor([0.0, 1.0])",
    ],
)
def test_a_network_with_a_gradient_is_as_its_factory_made_it(tmp_path, body):
    (tmp_path / "net.py").write_text(OWN_NETWORK.format(body))
    built = plan.build(about(tmp_path / "net.py"), 3)
    torch.manual_seed(3)
    made = changes.load_function(f"{tmp_path / 'net.py'}:make", "--model")[0]()
    assert built.training
    for one, other in zip(built.parameters(), made.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_last_layer_of_zeros_is_no_missing_gradient(tmp_path):
    text = OWN_NETWORK.format("return self.body(x)").replace(
        "    return Network()", "    made = Network()\n    made.body[1].weight.data.zero_()\n    return made"
    )
    (tmp_path / "net.py").write_text(text)
    assert not plan.build(about(tmp_path / "net.py"), 0).body[1].weight.any()


def test_names_of_changes_from_a_notebook():
    assert command.names("[gamma-0.6, jpeg-30]") == ("gamma-0.6", "jpeg-30")
    assert command.names(["'edges'"]) == ("edges",)
    assert command.names("default") == command.names(None) == command.names("") == ()


def test_changes_that_leave_nothing_to_compare_are_refused(images, tmp_path):
    for names, said in (
        (["original"], "at least one change besides 'original' is needed"),
        ([""], "a name of a change is empty"),
    ):
        with pytest.raises(ValueError, match=said):
            command.examine(images, names, out=tmp_path / "out")
    with pytest.raises(ChangeError) as refused:
        changes.parse("gama-0.6")
    assert "rescale-to" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": "two"}, "--seeds must be a whole number ≥ 1, given 'two'"),
        ({"seeds": 1.5}, "--seeds must be a whole number ≥ 1, given 1.5"),
        ({"minutes": "ten"}, "--minutes must be a number, given 'ten'"),
        ({"eps": 8}, r"--eps must be a number or fraction in \[1e-6, 0.5\], such as 8/255, given 8"),
    ],
)
def test_options_of_another_type_are_refused_in_one_line(images, options, said):
    with pytest.raises(ValueError, match=said):
        command.examine(images, ["edges"], **options)
    assert plan.budget(0.1) == plan.budget("0.1") == 0.1


def test_an_output_folder_that_cannot_be(images, tmp_path):
    with pytest.raises(ChangeError, match="cannot read nowhere.py"):  # before the images are read
        command.examine(tmp_path / "nowhere", model="nowhere.py:f")
    with pytest.raises(ValueError, match="is inside the folder of images"):
        command.examine(images, out=images / "report")
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="cannot write to --out .*taken: .*; give a folder that you can write to"):
        command.examine(images, out=tmp_path / "taken")


def test_a_folder_that_is_not_there_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (command.examine, command.list_changes):
        with pytest.raises((OSError, ValueError)):
            call(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_the_command_that_repeats_a_study_names_every_option_that_was_given():
    settings = plan.Options(changes=("gamma-0.6",), fixed=True, seeds=3)
    about = {"out": "o", "size": 8, "colour": "grey", "skip_unreadable": True, "margin": 2.0, "device": "cpu"}
    said = command.command_line("my photos", settings, about)
    assert said.startswith("python -m lib sensitivity 'my photos' --change gamma-0.6 ")
    assert set(said.split(" --")[2:]) == {
        "seeds 3", "fixed", "out o", "size 8", "colour grey", "skip-unreadable", "margin 2.0", "device cpu",
    }  # fmt: skip
    assert command.command_line("photos", plan.Options(), command._DEFAULTS) == "python -m lib sensitivity photos"


def test_a_network_of_a_study_leaves_the_random_state_alone():
    about = {
        "model": {"name": "lenet5", "widen_factor": 0.125},
        "image": {"in_channels": 1, "image_size": 8},
        "classes": ["a", "b"],
    }
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plan.build(about, 0)
    assert torch.equal(torch.rand(3), expected)


def test_too_few_minutes_name_how_many_would_do(images, tmp_path):
    with pytest.raises(ValueError, match=r"--minutes 0.01 allows 0 steps per training, at least 60 .*: give --minutes \d+"):
        command.examine(images, ["edges"], out=tmp_path / "out", minutes=0.01, say=lambda _: None)
    assert not list((tmp_path / "out").rglob("*.json"))


def test_no_more_trainings_at_a_time_than_processors(images, monkeypatch):
    monkeypatch.setattr(plan, "_measured", lambda made, *_: made)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3), raising=False)
    asked = plan.Options(jobs=1000, seeds=4)
    assert plan.make(folder.load(images), changes.select([], 1), asked, torch.device("cpu"))["jobs"] == 3
