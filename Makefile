# Python 3.11 or newer and make are all that is needed; `make help` lists the verbs.
VENV := .venv
UV := $(VENV)/.uv
# ENV=DIR: an environment that is there already, conda's for instance, takes the place of .venv, and nothing is set up.
ifdef ENV
BIN := $(ENV)/bin
READY := $(BIN)/snakemake
else
BIN := $(VENV)/bin
READY := $(VENV)/.ready
endif
CORES ?= all
DATA ?= datasets/cifar10
GOLDEN ?= datasets/golden
TABLE_SPEC := tables/cifar10-lt-16.yaml
SPEC ?= $(TABLE_SPEC)
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
DEVICE ?= cuda
BUDGET ?= 300
SEED ?= 0
PRESET ?= cells-32
QUICK := $(addprefix tests/,data differentiable longtail params report search spaces test_layout.py test_methods.py test_pages.py \
	test_public.py test_wording.py)
SNAKEFMT := $(BIN)/snakefmt --line-length 120
WORKFLOW := Snakefile workflow/table.smk workflow/rules
STAGES := source target imbalance supernet adapt search retrain evaluate

# $(call given,NAME,MEANING) ends a recipe with one line where the variable NAME is empty.
given = @test -n '$($(1))' || { echo 'error: $(1): not given, expected $(2)' >&2; exit 2; }

.PHONY: help setup run test test-quick lint format lock sync record accept experiments longtail table table-plan \
	transfer ranking ablation seeds-results wins handmade retina spread adaptation reuse approximation inheritance \
	implants gap golden latent-diffusion coverage bench gpu-pack gpu darts-results darts-speed regret regret-darts \
	adapted-heads search-claims figures rerun docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(READY) ## the environment in .venv

run: $(READY) ## the default chain, and a table of its results
	$(BIN)/snakemake --cores $(CORES) --quiet host reason
	@$(BIN)/imbnas table

test: $(READY) ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-quick: $(READY) ## the tests of the library, without steps and workflow
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(QUICK) \
		-m 'not slow and not workflow and not data and not slurm and not pages'

lint: $(READY) ## style, types and formatting of Python, Snakefiles and shell scripts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	MYPYPATH=src $(BIN)/mypy
	MYPYPATH=src $(BIN)/mypy workflow/lib
	$(SNAKEFMT) --check $(WORKFLOW)
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run slurm/*.sh; else echo 'shellcheck: not installed, skipped'; fi

format: $(READY) ## writes the style that lint wants
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(SNAKEFMT) $(WORKFLOW)

lock: $(UV) ## requirements.lock, after an edit of pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--extra workflow --extra dev pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		-c requirements.lock docs/requirements.in --output-file docs/requirements.lock

sync: $(READY) ## JSON schema and docs/parameters.md, after an edit of parameters
	$(BIN)/imbnas schema --write params.schema.json
	$(BIN)/imbnas params reference --write docs/parameters.md

record: $(READY) ## lets DVC record what Snakemake made, unless something is stale
	@said=$$($(BIN)/snakemake -n 2>&1) && echo "$$said" | grep -q 'Nothing to be done' || \
		{ echo 'error: not up to date, or not runnable: see `snakemake -n`, run `snakemake` first' >&2; exit 1; }
	@$(BIN)/python workflow/lib/record.py

accept: $(READY) ## lets Snakemake accept what `dvc checkout` or `dvc exp apply` brought, if DVC agrees
	@$(BIN)/python workflow/lib/code_digests.py
	@$(BIN)/dvc status --quiet $(STAGES) || { echo 'error: not what dvc.lock says: see `dvc status`' >&2; exit 1; }
	$(BIN)/snakemake --touch --cores 1

experiments: $(READY) ## the table of DVC's experiments (SHOW=--md: Markdown)
	@$(BIN)/dvc exp show --no-pager --only-changed $(SHOW) \
		--keep 'balanced_accuracy|few|macs|seconds' \
		--drop 'Created|State|Executor|accuracy|many|medium|macro_f1|ece|params|random_mean|over_random|largest|code\..*|.*/.*|requirements.lock'

longtail: $(READY) ## long-tailed methods side by side: docs/results/cifar10-lt.md (DATA=DIR: CIFAR-10)
	$(BIN)/python experiments/longtail.py --data $(DATA)

table: $(READY) ## trains what a truth table lacks (SPEC=tables/NAME.yaml, DATA=DIR, JOBS=N, SNAKE='--profile slurm')
	$(BIN)/snakemake --snakefile workflow/table.smk $(if $(SNAKE),,--cores $(CORES)) --forceall --quiet host reason $(SNAKE) \
		--config table=$(SPEC) parts=$(JOBS) $(if $(wildcard $(DATA)),data=$(DATA)) \
		$(if $(filter $(TABLE_SPEC),$(SPEC)),page=docs/results/truth-table.md)

table-plan: $(READY) ## how many trainings a truth table lacks, and about how many hours (SPEC, DATA)
	$(BIN)/imbnas truth plan $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA))

rerun: $(READY) ## a small part of the figures again, to the last bit (SEED=0, DATA=DIR; RERUN=--plan tells)
	$(BIN)/python experiments/rerun.py $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA)) --seed $(SEED) $(RERUN)

figures: $(READY) ## files of figures beside docs/results, after a page was edited by hand
	$(BIN)/python experiments/renew_figures.py

transfer: $(READY) ## do balanced ranks tell long-tailed ones: docs/results/transfer.md (TABLE=file.csv: control)
	$(BIN)/python experiments/transfer.py $(SPEC:.yaml=.parquet) $(if $(TABLE),--published $(TABLE)) $(TRANSFER)

ranking: $(READY) ## how supernets, proxies and costs rank a table's cells: docs/results/ranking.md (SPEC, DATA)
	$(BIN)/python experiments/ranking.py $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA)) $(RANKING)

ablation: $(READY) ## where a ranking is lost: docs/results/ablation.md (hours; SPEC, DATA; ABLATION=--plan tells)
	$(BIN)/python experiments/ablation.py $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA)) $(ABLATION)

seeds-results: $(READY) ## searches on a table's long tail: docs/results/seeds.md (hours; SPEC, DATA; SEEDS=--plan tells)
	$(BIN)/python experiments/seeds_results.py $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA)) $(SEEDS)

wins: $(READY) ## found networks beside random and free ones: docs/results/wins.md (hours; DATA; WINS=--plan tells)
	$(BIN)/python experiments/wins.py $(if $(wildcard $(DATA)),--data $(DATA)) $(WINS)

handmade: $(READY) ## the same beside ShuffleNetV2 and a ResNet: docs/results/handmade.md (hours; DATA; HANDMADE=--plan)
	$(BIN)/python experiments/handmade.py $(if $(wildcard $(DATA)),--data $(DATA)) $(HANDMADE)

retina: $(READY) ## RetinaMNIST with the shipped supernet: docs/results/retina.md (an hour; DATA: retinamnist.npz; RETINA=--plan)
	$(BIN)/python experiments/retina.py $(if $(filter file,$(origin DATA)),,--data $(DATA)) $(RETINA)

spread: $(READY) ## do architectures of a preset differ by more than seeds do (PRESET=cells-32, DATA=DIR: CIFAR-10)
	$(BIN)/python experiments/spread.py --preset $(PRESET) $(if $(wildcard $(DATA)),--data $(DATA)) $(SPREAD)

search-claims: $(READY) ## searches that claims compare: docs/results/search-claims.md (hours; DATA; CLAIMS=--plan tells)
	$(BIN)/python experiments/search_claims.py $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA)) $(CLAIMS)

adaptation: $(READY) ## adaptations on digits, their seconds and ranks: docs/results/adaptation.md
	$(BIN)/python experiments/adaptation.py $(ADAPTATION)

reuse: $(READY) ## a second target with a reused supernet, on digits: docs/results/reuse.md
	$(BIN)/python experiments/reuse.py $(REUSE)

inheritance: $(READY) ## inherited weights beside new ones: docs/results/inheritance.md (hours; DATA=DIR: both CIFARs)
	$(BIN)/python experiments/inheritance.py $(if $(wildcard $(DATA)),--data $(DATA)) $(INHERITANCE)

approximation: $(READY) ## accuracy and energy by multiplier, on digits: docs/results/approximation.md (minutes)
	$(BIN)/python experiments/approximation.py $(APPROXIMATION)

adapted-heads: $(READY) ## adaptations of a CIFAR-100 supernet: docs/results/adapted-heads.md (hours; DATA; HEADS=--plan tells)
	$(BIN)/python experiments/adapted_heads.py $(SPEC) $(if $(wildcard $(DATA)),--data $(DATA)) $(HEADS)

implants: $(READY) ## implanted cells beside other adaptations, on digits: docs/results/implants.md
	$(BIN)/python experiments/implants.py $(IMPLANTS)

gap: $(READY) ## discretisation gap of differentiable searches, on digits: docs/results/discretisation-gap.md (minutes)
	$(BIN)/python experiments/gap.py $(GAP)

golden: $(READY) ## heads on published networks' features (GOLDEN=DIR holds them): docs/results/golden.md
	$(BIN)/python experiments/golden.py --data $(GOLDEN)

latent-diffusion: $(READY) ## heads on generated features (GOLDEN=DIR): docs/results/latent-diffusion.md
	$(BIN)/python experiments/latent_diffusion.py --data $(GOLDEN)

coverage: $(READY) ## how often intervals exclude 0 without a difference: docs/results/intervals.md
	$(BIN)/python experiments/interval_coverage.py

gpu-pack: $(READY) ## what `make gpu` needs on a machine without a network, into .gpu/pack (DATA=DIR: CIFAR-10)
	$(BIN)/python experiments/gpu_pack.py --data $(DATA)

# On the bare machine no environment is set up: its own Python has torch, and brings the rest from the pack.
gpu: ## tests, ratios and trainings on a GPU (BUDGET=300 seconds, OUT=DIR; DEVICE=cpu: a rehearsal, tiny)
	$(if $(wildcard $(READY)),$(BIN)/python,python3) experiments/gpu_run.py --device $(DEVICE) --budget $(BUDGET) \
		$(if $(OUT),--out $(OUT)) $(GPU)

bench: $(READY) ## speed beside xautodl and NNI, installed in benchmarks/.peers: docs/results/speed.md
	$(BIN)/python benchmarks/run.py $(BENCH)

darts-results: $(READY) ## differentiable searches on digits, seed by seed: docs/results/darts.md (an hour)
	$(BIN)/python benchmarks/long_tailed_search.py $(DARTS)

darts-speed: $(READY) ## time of a search step beside a plain transcription of the DARTS loop
	$(BIN)/python benchmarks/darts.py $(DARTS)

regret: $(READY) ## search methods on NAS-Bench-201, 200 seeds each: docs/results/regret.md (TABLE=file.csv)
	$(call given,TABLE,TABLE=file.csv of NAS-Bench-201 with its architectures and accuracies)
	$(BIN)/python benchmarks/regret.py $(TABLE) $(REGRET)

regret-darts: $(READY) ## DARTS on NAS-Bench-201: docs/results/regret-darts.md (TABLE=file.csv, DATA=DIR: CIFAR-10)
	$(call given,TABLE,TABLE=file.csv of NAS-Bench-201 with its architectures and accuracies)
	$(BIN)/python benchmarks/regret_darts.py $(TABLE) --data $(DATA) $(DARTS)

docs: $(VENV)/.docs ## the documentation as a site: docs/_build/html/docs/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -b html . docs/_build/html
	@echo 'docs/_build/html/docs/index.html'

clean: ## removes outputs and the state of runs, but no raw data, DVC cache or environment
	rm -rf data models results study/*/ study/*.csv study/*.html study/*.parquet logs benchmarks/*.tsv benchmarks/study \
		.snakemake .imbnas code.json

$(UV): requirements-uv.lock
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			found=$$python; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "error: no Python 3.11 or newer with venv found ($$(python3 --version 2>&1)); Debian: apt install python3-venv" >&2; \
		exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$found --version)"; \
	$$found -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

ifdef ENV
$(READY):
	@echo 'error: $@: not found, expected an environment into which imbnas[workflow] is installed (ENV=DIR)' >&2; exit 2
else
# Stamps come last: a set-up that was interrupted is taken up again. uv is quick, but does not read pip's
# configuration: where packages come from an index that only pip knows, pip fetches them. Without their bytecode, which
# pip writes unasked, torch takes twice as long to import wherever PYTHONDONTWRITEBYTECODE is set, in every process.
$(READY): $(UV) requirements.lock pyproject.toml
	@rm -f $@
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# Sphinx and its theme are no part of the lock file that results depend on.
$(VENV)/.docs: $(READY) docs/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r docs/requirements.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs/requirements.lock
	@touch $@
endif
