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

# Annotated folders, the weights of MobileNet v1, where models are made, and what teaches them.
DATA ?= ../shared/data
IMAGENET ?= ../shared/weights
MODELS ?= build/models
TEACHER ?= src/napari_unet_cells/nets/weights/cells.keras

TRAIN = { mkdir -p $(MODELS) && .venv/bin/napari-unet-cells train $(DATA)/dsb2018 $(DATA)/usiigaci \
	-o $(MODELS)/$(1).keras $$([ -f $(MODELS)/$(1).checkpoint/state.json ] && echo --resume) \
	--diameters 8,90 --window 18,36 $(2); }

# First with everything changed at random, then mostly with images as they are.
TRAIN_TWICE = { [ -e $(MODELS)/$(1)-start.json ] || $(call TRAIN,$(1)-start,$(2) --minutes 100); } && \
	{ [ -f $(MODELS)/$(1).checkpoint/state.json ] || { \
		rm -rf $(MODELS)/$(1).checkpoint $(MODELS)/copy && \
		cp -r $(MODELS)/$(1)-start.checkpoint $(MODELS)/copy && \
		mv $(MODELS)/copy $(MODELS)/$(1).checkpoint; }; } && \
	$(call TRAIN,$(1),$(2) --calm 0.7 $(3))

CELLS = --alpha 0.75 --decoder 128,64,32 --init $(IMAGENET)/mobilenet_v1_0.75_224_imagenet.npz
CELLS_FAST = --alpha 0.25 --init $(IMAGENET)/mobilenet_v1_0.25_224_imagenet.npz

train-cells: setup
	$(call TRAIN_TWICE,cells,$(CELLS),--minutes 210)

# The second time it learns from what `cells` thinks, which ships.
train-cells-fast: setup
	$(call TRAIN_TWICE,cells-fast,$(CELLS_FAST),--minutes 185 --teacher $(TEACHER))

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
