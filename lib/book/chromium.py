"""Runs Chromium without a window, to print the book and to take pictures of its pages."""

import shutil
import subprocess
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def run(page: str, *options: str) -> str:
    """Open the address `page` with `options` of Chromium's command line; what it said is returned.

    FileNotFoundError where there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        raise FileNotFoundError(f"no Chromium on the path; looked for {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as profile:
        fixed_options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        process = subprocess.run([browser, *fixed_options, *options, page], capture_output=True, text=True, check=False)
    return process.stderr.strip()
