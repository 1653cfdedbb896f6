# Everything runs in .venv; `make install` fills it once, from the locked versions.
PYTHON ?= python3
BIN    := .venv/bin
DONE   := .venv/.installed
ENV    ?= cells
PRESET ?= short
# The last nodes of article_claims: with what they start from, and no more of training than its plan.
CLAIMS := article_claims.plot_upsampling,article_claims.draw_checkerboards,article_claims.plot_encoders,article_claims.judge_claims,article_claims.write_speeds

.DEFAULT_GOAL := help
.PHONY: help install run test viz article-claims mlflow serve lint format bench lock lowest screenshots docs docs-serve docs-claims clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(DONE)  ## make the environment in .venv (nothing is installed twice)

$(DONE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed; {sys.executable} is {v[0]}.{v[1]}. Name another: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(DONE)

run: $(DONE)  ## the main job: kedro run (ENV=camvid for another problem, ARGS=... for more)
	@$(BIN)/kedro run --env $(ENV) $(ARGS)

test: $(DONE)  ## all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

viz: $(DONE)  ## the graph, with tables and pictures behind every node
	$(BIN)/kedro viz run --env $(ENV)

article-claims: $(DONE)  ## the article's claims, measured on cells (ENV=wbc for another problem, PRESET=full for longer trainings)
	@$(BIN)/kedro run --env $(ENV) --pipelines data_ingestion,data_preparation,augmentation,training,article_claims --to-nodes $(CLAIMS) $(if $(filter-out short,$(PRESET)),--params article_claims.preset=$(PRESET)) $(ARGS)

mlflow: $(DONE)  ## curves, scores, galleries and models of all runs, at http://127.0.0.1:5000
	@$(BIN)/kedro mlflow ui --env $(ENV)

serve: $(DONE)  ## the champion behind an address, with a page to drop images on, at http://127.0.0.1:8000
	@$(BIN)/kedro serve --env $(ENV) $(ARGS)

lint: $(DONE)  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(DONE)  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DONE)  ## a measured claim: make bench NAME=training_throughput
	@test -n "$(NAME)" || { echo "Name one of:"; ls benchmarks/*.py | sed -E 's,benchmarks/(.*)\.py,  make bench NAME=\1,'; exit 1; }
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

lowest: $(DONE)  ## the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip compile pyproject.toml --all-extras --resolution lowest-direct --quiet --output-file .venv-lowest/requirements.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --requirement .venv-lowest/requirements.txt --no-deps --editable .
	.venv-lowest/bin/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

lock: $(DONE)  ## compile requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --output-file requirements.lock

screenshots: $(DONE)  ## make the pictures of the README anew (needs Chromium)
	$(BIN)/python docs/make_layers.py
	$(BIN)/python docs/make_screenshots.py

docs: $(DONE)  ## build the documentation into site/; a dead link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(DONE)  ## the documentation at http://127.0.0.1:8001, built again at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

docs-claims: $(DONE)  ## bring the pages of make article-claims (cells, wbc, isbi2012) into docs/
	$(BIN)/python docs/make_article_claims.py

clean:  ## forget what runs made; data sets, models and MLflow's store included
	rm -rf data/0* mlflow.db* mlartifacts .tracking build dist
