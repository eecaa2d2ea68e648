"""Takes the README's picture: the top of the book's first page, at the size of a small laptop's screen."""

import io
import tempfile
from pathlib import Path

from PIL import Image

from lib.book import chromium

SIZE = (1280, 1000)  # the title, the paper in one minute and the figure of its claim
_SCHEMES = {"": 1, "-dark": 0}  # from the end of a file's name to what Chromium's preferredColorScheme calls the theme


def write(html: Path, file: Path) -> list[Path]:
    """Write `file`, a PNG, and beside it NAME-dark.png, of the book built in the folder `html`; the files are returned.

    FileNotFoundError where there is no book or no Chromium, ValueError for another kind of file, OSError where none is taken.
    """
    if file.suffix != ".png":
        raise ValueError(f"the picture's file must end with .png, given {file}")
    if not (html / "index.html").is_file():
        raise FileNotFoundError(f"{html} is not a built book (it has no index.html); build it with `make book`")
    page, written = (html / "index.html").resolve().as_uri(), []
    for ending, scheme in _SCHEMES.items():
        target = file.with_name(f"{file.stem}{ending}.png")
        target.write_bytes(_screenshot(page, scheme))
        written.append(target)
    return written


def _screenshot(page: str, scheme: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        options = [f"--window-size={SIZE[0]},{SIZE[1]}", "--hide-scrollbars", f"--blink-settings=preferredColorScheme={scheme}"]
        messages = chromium.run(page, *options, "--virtual-time-budget=20000", f"--screenshot={shot}")
        if not shot.is_file():
            raise OSError(f"Chromium took no picture of {page}: {messages[-500:]}")
        # A page has few colours: a palette holds them, at a third of the size.
        with Image.open(shot) as image:
            small = image.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    file = io.BytesIO()
    small.save(file, "png", optimize=True)
    return file.getvalue()
