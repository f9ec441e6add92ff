# `make` alone lists what there is. Everything runs in .venv; `setup` makes it and keeps it
# current, so every target works on a fresh checkout.

PYTHON_IN_VENV := .venv/bin/python
XVFB := xvfb-run -a -s "-screen 0 1400x900x24"

# One failed check does not hide the next.
MAKEFLAGS += --keep-going

.PHONY: help run test test-fast fuzz kills faults soak matrix licences check bench accuracy train-cells train-cells-fast ship screenshots recordings loop-pictures setup torch lint \
	layout format types contracts manifest workflows

help:
	@echo 'make run          open napari with a sample image and the dock'
	@echo 'make test         run all tests'
	@echo 'make test-fast    run those without a window, a network and long waits'
	@echo 'make fuzz         give the readers of files malformed ones for an hour'
	@echo 'make kills        kill programs that write a thousand times, and count what was lost'
	@echo 'make faults       let each write fail, by a full disk and a full memory, and count what is lost'
	@echo 'make soak         run a thousand times in one napari, and see whether anything grows'
	@echo 'make matrix       run tests with several versions of Python and napari; needs uv'
	@echo 'make licences     list the licences of the libraries that an installation brings'
	@echo 'make check        style, types, import contracts, manifest, workflows'
	@echo 'make format       repair the style where a program can'
	@echo 'make bench        run the benchmarks'
	@echo 'make accuracy     measure the models that ship on SETS of DATA'
	@echo 'make train-cells, make train-cells-fast'
	@echo '                  train cells, and a cells-fast that learns from it, from SETS of'
	@echo '                  DATA and IMAGENET; stopped, they go on where they were'
	@echo 'make ship         take models that were trained into the package'
	@echo 'make screenshots  draw the pictures of the documentation again'
	@echo 'make recordings   record the films of the README again; needs xdotool'
	@echo 'make loop-pictures  draw what a few corrected regions bring, from DATA, for the README'

run: setup
	@$(PYTHON_IN_VENV) -m napari_unet_cells

test: setup
	@$(PYTHON_IN_VENV) scripts/run_tests.py

test-fast: setup
	@$(PYTHON_IN_VENV) scripts/run_tests.py --fast

# An hour for all readers of files together; the counts stand at the end.
fuzz: setup
	@FUZZ_SECONDS=400 $(PYTHON_IN_VENV) -m pytest -q -s -m "not gui" tests/fuzz

# A thousand kills take a quarter of an hour on two cores, and ten of the command `train` five minutes.
kills: setup
	@$(PYTHON_IN_VENV) scripts/kills.py 1000 --training 10

# Some minutes on two cores.
faults: setup
	@$(PYTHON_IN_VENV) scripts/faults.py

# Takes about half an hour on two cores; Ctrl+C leaves what was measured so far in build/soak.
soak: setup
	@$(PYTHON_IN_VENV) scripts/soak.py 1000

# A selection of the tests, some minutes a cell; WHOLE=--whole runs all, CELLS='3.12-0.8 3.11-lowest' some cells.
matrix: setup
	@$(PYTHON_IN_VENV) scripts/matrix.py $(WHOLE) $(CELLS)

# After a change of constraints.txt.
licences: setup
	@$(PYTHON_IN_VENV) scripts/licences.py

check: lint layout types contracts manifest workflows

bench: setup
	@status=0; found=no; \
	for script in benchmarks/*.py; do \
		[ -e "$$script" ] || continue; \
		found=yes; echo "== $$script"; \
		$(PYTHON_IN_VENV) "$$script" || status=1; \
	done; \
	[ $$found = yes ] || echo 'There are no benchmarks yet.'; \
	exit $$status

# Annotated folders and which of them, the weights of MobileNet v1, where models are made, and what cells-fast
# learns from (the `cells` that was made there, else the one that ships) and starts from.
DATA ?= ../shared/data
SETS ?= dsb2018 usiigaci bbbc039 bitdepth_nucseg
IMAGENET ?= ../shared/weights
MODELS ?= build/models
TEACHER ?= $(firstword $(wildcard $(MODELS)/cells.keras) src/napari_unet_cells/models/weights/cells.keras)
START ?= src/napari_unet_cells/models/weights/cells-fast.keras

# PyTorch takes a step in a third of TensorFlow's time where the processor multiplies bfloat16.
TRAIN = { mkdir -p $(MODELS) && .venv/bin/napari-unet-cells train $(addprefix $(DATA)/,$(SETS)) \
	-o $(MODELS)/$(1).keras $$([ -f $(MODELS)/$(1).checkpoint/state.json ] && echo --resume) \
	--backend torch --diameters 8,90 --window 18,36 $(2); }

CELLS := --alpha 1.0 --decoder 128,64,32

# In four parts: each begins at the full learning rate again, the last at a fifth of it, where the one
# before has come to rest.
train-cells: torch
	[ -f $(MODELS)/cells-1.keras ] || $(call TRAIN,cells-1,$(CELLS) --minutes 75 --mild 0.6 \
		--init $(IMAGENET)/mobilenet_v1_1.0_224_imagenet.npz)
	[ -f $(MODELS)/cells-2.keras ] || $(call TRAIN,cells-2,$(CELLS) --minutes 75 --mild 0.7 --seed 7 \
		--init $(MODELS)/cells-1.keras)
	[ -f $(MODELS)/cells-3.keras ] || $(call TRAIN,cells-3,$(CELLS) --minutes 65 --mild 0.7 --seed 11 \
		--init $(MODELS)/cells-2.keras)
	$(call TRAIN,cells,$(CELLS) --minutes 75 --mild 0.7 --seed 31 --learning-rate 0.0004 \
		--init $(MODELS)/cells-3.keras)

# Goes on from the one that ships; START=$(IMAGENET)/mobilenet_v1_0.25_224_imagenet.npz begins anew,
# which takes longer.
train-cells-fast: torch
	$(call TRAIN,cells-fast,--alpha 0.25 --minutes 58 --mild 0.7 --seed 13 \
		--teacher $(TEACHER) --init $(START))

# Takes what was trained into the package.
ship: setup
	@$(PYTHON_IN_VENV) -c 'import nncf' 2>/dev/null || \
		$(PYTHON_IN_VENV) -m pip install --quiet --constraint constraints.txt --editable '.[ship]'
	$(PYTHON_IN_VENV) scripts/ship_model.py $(wildcard $(MODELS)/cells.keras $(MODELS)/cells-fast.keras)
	$(PYTHON_IN_VENV) scripts/quantize_model.py cells cells-fast \
		--train $(addprefix $(DATA)/,$(SETS)) --val $(addprefix $(DATA)/,$(SETS))

# Of what ships; writes their cards, docs/accuracy.md and benchmarks/results/accuracy.json.
accuracy: setup
	$(PYTHON_IN_VENV) benchmarks/accuracy.py $(addprefix $(DATA)/,$(SETS)) --page --write-card

screenshots: setup
	@QT_QPA_PLATFORM=xcb $(XVFB) $(PYTHON_IN_VENV) scripts/screenshots.py

recordings: setup
	@QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1280x720x24" $(PYTHON_IN_VENV) scripts/record.py

# Half an hour on two cores; stopped, it goes on where it was.
loop-pictures: setup
	PYTHONPATH=benchmarks $(PYTHON_IN_VENV) scripts/loop_pictures.py build/loop-pictures --data $(DATA)

# --- parts of the above ---

setup:
	@scripts/setup.sh

# What trains the models that ship. The set-up may have brought the build for CPUs, for the tests; where
# there is a driver of NVIDIA's it is replaced by the one for GPUs.
torch: setup
	@$(PYTHON_IN_VENV) -c 'import os, sys, torch; \
		sys.exit(os.path.exists("/dev/nvidiactl") and not torch.version.cuda)' 2>/dev/null || \
		{ $(PYTHON_IN_VENV) -m pip uninstall --quiet --yes torch && \
		$(PYTHON_IN_VENV) -m pip install --quiet --constraint constraints.txt --editable '.[torch]'; }

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

# Against the schemas that come with check-jsonschema: needs no network. It prints "ok" for each.
SCHEMA := .venv/bin/check-jsonschema --builtin-schema

workflows: setup
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(SCHEMA) vendor.dependabot .github/dependabot.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(SCHEMA) vendor.citation-file-format --force-filetype yaml CITATION.cff
