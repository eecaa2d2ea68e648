# Everything is set up on first use, in .venv; needs Python ≥ 3.11 and make.
PYTHON ?= python3
SCALE ?= laptop
BIN := .venv/bin
READY := .venv/.ready

.PHONY: book pdf test browser reproduce bench state picture lab clean

book: $(READY)  ## the book, from the records in results/
	$(BIN)/jupyter-book build book --all -W --keep-going -n
	@echo "The book: $(CURDIR)/book/_build/html/index.html"

pdf: book  ## the book as one PDF, with the Chromium of this machine
	$(BIN)/python -m lib pdf book/_build/html book/_build/book.pdf

test: $(READY)  ## every check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

browser: book  ## the book that was built, in Chromium: every page, on a screen and on a phone, in the light and in the dark
	BOOK_HTML=book/_build/html $(BIN)/python -m pytest -m browser

reproduce: $(READY)  ## compute whatever is missing at SCALE (smoke, laptop or paper), then the book; can be interrupted
	$(BIN)/python -m lib run --scale $(SCALE)
	$(MAKE) book

bench: $(READY)  ## the attack beside other libraries', on this machine
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchattacks  # it pins a requests of 2020
	$(BIN)/python benchmarks/pgd.py

state: $(READY)  ## the README's totals, from the records
	$(BIN)/python -m lib state README.md

picture: $(READY)  ## the README's picture, from the records
	$(BIN)/python -m lib picture book/_static/figure-2.svg

lab: $(READY)  ## the notebooks, to play with
	$(BIN)/pip install --quiet --constraint constraints.txt jupyterlab
	$(BIN)/jupyter lab notebooks

clean:  ## what was built; never records, checkpoints or data
	rm -rf .venv book/_build executed/*.ipynb *.egg-info .pytest_cache .ruff_cache .import_linter_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $(READY)
