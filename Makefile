# `make` alone lists what there is. Everything runs in .venv; `setup` makes it and keeps it
# current, so every target works on a fresh checkout.

PYTHON_IN_VENV := .venv/bin/python
XVFB := xvfb-run -a -s "-screen 0 1400x900x24"

# One failed check does not hide the next.
MAKEFLAGS += --keep-going

.PHONY: help run test check bench accuracy train-cells train-cells-fast screenshots setup lint \
	layout format types contracts manifest

help:
	@echo 'make run          open napari with a sample image and the dock'
	@echo 'make test         run all tests'
	@echo 'make check        style, types, import contracts, manifest'
	@echo 'make format       repair the style where a program can'
	@echo 'make bench        run the benchmarks'
	@echo 'make accuracy     measure the models that ship on DATA'
	@echo 'make train-cells, make train-cells-fast'
	@echo '                  train cells, and a cells-fast that learns from it, from DATA and'
	@echo '                  IMAGENET; stopped, they go on where they were'
	@echo 'make screenshots  draw the pictures of the documentation again'

run: setup
	@$(PYTHON_IN_VENV) -m napari_unet_cells

test: setup
	@$(PYTHON_IN_VENV) scripts/run_tests.py

check: lint layout types contracts manifest

bench: setup
	@status=0; found=no; \
	for script in benchmarks/*.py; do \
		[ -e "$$script" ] || continue; \
		found=yes; echo "== $$script"; \
		$(PYTHON_IN_VENV) "$$script" || status=1; \
	done; \
	[ $$found = yes ] || echo 'There are no benchmarks yet.'; \
	exit $$status

# Annotated folders, the weights of MobileNet v1, and where models are made.
DATA ?= ../shared/data
IMAGENET ?= ../shared/weights
MODELS ?= build/models

TRAIN = mkdir -p $(MODELS) && .venv/bin/napari-unet-cells train $(DATA)/dsb2018 $(DATA)/usiigaci \
	-o $(MODELS)/$(1).keras $$([ -d $(MODELS)/$(1).checkpoint ] && echo --resume) \
	--diameters 8,90 --window 18,36

CELLS_OPTIONS = --alpha 0.75 --decoder 128,64,32 --init $(IMAGENET)/mobilenet_v1_0.75_224_imagenet.npz

# First with everything changed at random, then mostly with images as they are.
train-cells: setup
	[ -e $(MODELS)/cells-start.json ] || { $(call TRAIN,cells-start) $(CELLS_OPTIONS) --minutes 100; }
	[ -e $(MODELS)/cells.checkpoint ] || \
		cp -r $(MODELS)/cells-start.checkpoint $(MODELS)/cells.checkpoint
	$(call TRAIN,cells) $(CELLS_OPTIONS) --minutes 210 --calm 0.7

# Learns from what cells thinks, which `make train-cells` trains first.
train-cells-fast: setup
	$(call TRAIN,cells-fast) --alpha 0.25 --minutes 100 \
		--init $(IMAGENET)/mobilenet_v1_0.25_224_imagenet.npz \
		--teacher $(MODELS)/cells.keras

# Of what ships; writes their cards, docs/accuracy.md and benchmarks/results/accuracy.json.
accuracy: setup
	$(PYTHON_IN_VENV) benchmarks/accuracy.py $(DATA)/dsb2018 $(DATA)/usiigaci --page --write-card

screenshots: setup
	@QT_QPA_PLATFORM=xcb $(XVFB) $(PYTHON_IN_VENV) scripts/screenshots.py

# --- parts of the above ---

setup:
	@scripts/setup.sh

lint: setup
	$(PYTHON_IN_VENV) -m ruff check .

layout: setup
	$(PYTHON_IN_VENV) -m ruff format --check .

format: setup
	$(PYTHON_IN_VENV) -m ruff check --fix .
	$(PYTHON_IN_VENV) -m ruff format .

types: setup
	$(PYTHON_IN_VENV) -m mypy

contracts: setup
	.venv/bin/lint-imports --no-logo

# The one at the root is for people who look for it there; the package uses its own.
manifest: setup
	$(PYTHON_IN_VENV) -m npe2 validate --imports src/napari_unet_cells/napari.yaml
	test -L napari.yaml && cmp napari.yaml src/napari_unet_cells/napari.yaml
