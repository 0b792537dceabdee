# make demo      install what is missing, then run both demonstrations
# make test      install what is missing, then lint, types, layout and the fast tests
# make test-all  the same with the heavy suites: exports, two runtimes, a fleet of processes, the demos
# make light     the tests of the rooms that boards and servers use, on Python 3.10 and 3.13, without torch
# make boot      what happens to emulated boards: cut off, without network or room; a quarter of an hour
# make faults    what may strike a bundle on its way into use, at every part of it; ten minutes
# make format    what `make lint` asks for
#
# PYTHON       the interpreter that .venv is made from (3.10 or newer, with its venv module)
# WORKERS      processes that run tests at the same time, one file in one of them
# TORCH_INDEX  another wheel index for torch alone, for those who must fetch a CPU build:
#              make test TORCH_INDEX=https://...

PYTHON ?= python3
FLOOR_PYTHON ?= $(PYTHON)
WORKERS ?= 2
TORCH_INDEX ?=

TORCH := torch==2.13.0
FLOOR := onnxruntime==1.23.2
ROOMS := console wire devices quant export edge hub sim
LIGHT := console wire devices quant edge hub
DEMO := build/demo

BIN := .venv/bin
# a change to either file means another environment; nothing else does
WANTED := $(shell cat pyproject.toml constraints.txt | cksum | tr ' ' -)
STAMP := .venv/.installed-$(WANTED)
FLOOR_STAMP := .venv-floor/.installed-$(WANTED)

# in the order of tests/conftest.py: files with long tests first
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SIDE_BY_SIDE)
FAST := not heavy and not fleet and not chaos and not demo and not boot

.PHONY: install demo test test-all boot faults lint format light floor clean
MAKEFLAGS += --no-print-directory

install: $(STAMP)

# torch first and by itself: the index that has its CPU build does not have the rest
$(STAMP):
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo \
	  "expected $(PYTHON) with its venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/python -m pip install -c constraints.txt -e '.[all,dev]'
	@rm -f .venv/.installed-* && touch $@

demo: install
	$(BIN)/edgequilt demo --out $(DEMO)
	$(BIN)/edgequilt demo --scenario cameras --out $(DEMO)-cameras

test: lint
	$(PYTEST) -m "$(FAST)" --durations=10

# one run, so that the closing line counts everything; its examples are the same each time, `make test` draws new ones
test-all: lint floor
	EDGEQUILT_FLOOR_PYTHON=$(CURDIR)/.venv-floor/bin/python $(PYTEST) --hypothesis-profile=ci --durations=25

# one process: boards that boot side by side only wait for each other
boot: install
	EDGEQUILT_LONG_BOOTS=1 $(BIN)/python -m pytest tests/emulated/test_hardships.py --durations=10

faults: install
	EDGEQUILT_WHOLE_MATRIX=1 $(BIN)/python -m pytest $(addprefix -n ,$(WORKERS)) tests/edge/renewal --durations=10

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

# the oldest runtime that boards have (JetPack 6), in an environment of its own
floor: $(FLOOR_STAMP)

$(FLOOR_STAMP):
	@test -x .venv-floor/bin/python || $(FLOOR_PYTHON) -m venv .venv-floor
	@grep -v '^onnxruntime==' constraints.txt > .venv-floor/constraints.txt
	.venv-floor/bin/python -m pip install -c .venv-floor/constraints.txt '$(FLOOR)' numpy
	@rm -f .venv-floor/.installed-* && touch $@

# one environment per interpreter that is there, without torch; onnx writes the tests' small graphs, scikit-learn is
# an oracle; behind quant/bnb.py, which only exporters use, is torch
light:
	@found=; for version in 3.10 3.13; do \
	  python=$$(command -v $$HOME/.pyenv/versions/$$version.*/bin/python python$$version | head -n 1); \
	  if ! "$$python" --version >/dev/null 2>&1; then echo "python$$version: not here, left out"; continue; fi; \
	  found=1; $(MAKE) light-$$version LIGHT_PYTHON=$$python || exit 1; \
	done; test -n "$$found"

light-%: .venv-%/.installed-$(WANTED)
	.venv-$*/bin/python -m pytest $(SIDE_BY_SIDE) -m "$(FAST)" --ignore quant/bnb.py $(LIGHT) $(wildcard $(LIGHT:%=tests/%)) \
	  tests/test_light.py tests/test_command.py

# else make removes it as a step on the way, and installs everything again the next time
.PRECIOUS: .venv-%/.installed-$(WANTED)

.venv-%/.installed-$(WANTED):
	@test -x .venv-$*/bin/python || $(LIGHT_PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -c constraints.txt -e '.[edge,hub,flash]' pytest pytest-xdist hypothesis onnx scikit-learn
	@rm -f .venv-$*/.installed-* && touch $@

clean:
	rm -rf build dist .venv .venv-floor .venv-3.10 .venv-3.13 *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
