# make demo: the main job on the phantom. make test: everything that is checked. Both install what they need.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CONFIGS := bundle/configs
WORK ?= runs/demo
RUN := $(PY) -W ignore::UserWarning -W ignore::FutureWarning -m monai.bundle run
export TQDM_MININTERVAL ?= 1

.PHONY: install demo test lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,runtimes]"
	touch $@

demo: install
	rm -rf $(WORK)
	$(RUN) profile --config_file "['$(CONFIGS)/profile.json','$(CONFIGS)/demo.json']" --work_dir $(WORK)
	$(RUN) search --config_file "['$(CONFIGS)/search.json','$(CONFIGS)/demo.json']" --work_dir $(WORK)
	$(RUN) train --config_file "['$(CONFIGS)/train.json','$(CONFIGS)/demo.json']" --work_dir $(WORK)
	$(RUN) infer --config_file "['$(CONFIGS)/inference.json','$(CONFIGS)/demo.json']" --work_dir $(WORK)
	$(RUN) evaluate --config_file "['$(CONFIGS)/train.json','$(CONFIGS)/evaluate.json','$(CONFIGS)/demo.json']" --work_dir $(WORK)
	@echo "Look at $(WORK)/figures, $(WORK)/train/curves.png and $(WORK)/infer"

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(PY) -m pytest

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
