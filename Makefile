# make demo: the main job on the phantom. make test: all checks. Both install what they need.
# make test-label: a real MONAI Label server with the packed bundle, on loopback, in its own environment.
# make sbom: build/sbom.json and build/licences.csv.
# make audit: known vulnerabilities of the pinned packages; asks PyPI.
# make manifest: SHA-256 of the shipped models; see docs/SECURITY.md.
# make presets: the configs of the other searches.
# make notebook: executes bundle/docs/tutorial.ipynb and stores its outputs.
# make bundle: dist/cardiac_cine_mri_rtdnas_segmentation_v<version>.zip, for the model zoo.
# make metrics EVALUATED=work_dir: eval_metrics of metadata.json, from the evaluation of the shipped model there.
PYTHON ?= python3
VENV := .venv
AUDIT := .venv-audit
LABEL := .venv-label
PY := $(VENV)/bin/python
CONFIGS := bundle/configs
WORK ?= runs/demo
RUN := $(PY) -W ignore::UserWarning -W ignore::FutureWarning -m monai.bundle run
export TQDM_MININTERVAL ?= 1
# threads that wait sleep: threads that spin block the cores for other programs, and training takes many times as long
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install demo test test-label lint sbom audit manifest presets notebook metrics results bundle clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,runtimes,dicom,live,tracking]"
	echo 'export OMP_WAIT_POLICY="$${OMP_WAIT_POLICY:-PASSIVE}"' >> $(VENV)/bin/activate
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

# two test files at a time, each on one thread: OpenMP threads of two programs block each other on shared cores
test: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# a separate venv, fully pinned: the requirements of MONAI Label conflict with those of the bundle
$(LABEL)/.installed: constraints.txt tests/label/requirements.txt
	$(PYTHON) -m venv $(LABEL)
	$(LABEL)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(LABEL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/label/requirements.txt
	touch $@

test-label: $(LABEL)/.installed
	PYTHONPATH=bundle:. $(LABEL)/bin/python -W ignore tests/label/check.py

# a separate venv: these tools must not be part of the environment that they describe
$(AUDIT)/.installed: constraints.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt cyclonedx-bom pip-audit pip-licenses
	touch $@

sbom: install $(AUDIT)/.installed
	mkdir -p build
	$(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.json $(PY)
	$(AUDIT)/bin/pip-licenses --python=$(PY) --with-system --with-urls --order=license --format=csv --output-file=build/licences.csv

# strict: a package without an answer from PyPI counts as a failure
audit: $(AUDIT)/.installed
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

manifest: install
	PYTHONPATH=bundle $(PY) -m release.manifest

presets: install
	PYTHONPATH=bundle $(PY) -m release.presets

notebook: install
	PYTHONPATH=bundle $(PY) -m release.notebook

metrics: install
	PYTHONPATH=bundle $(PY) -m release.eval_metrics "$(EVALUATED)"

# make results EVALUATED=work_dir: its tables for bundle/docs/results.md
results: install
	PYTHONPATH=bundle $(PY) -m release.results "$(EVALUATED)"

bundle: install
	PYTHONPATH=bundle $(PY) -m release.pack dist

clean:
	rm -rf $(VENV) $(AUDIT) $(LABEL) build dist runs .pytest_cache .mypy_cache .ruff_cache
