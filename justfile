# `just check test` is what a change needs to pass.

# Lint, format and types.
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy
    uv run lint-imports

# The default tests; `just test -m slow` for the long ones, `just test --cov` for branch coverage.
test *arguments:
    uv run pytest {{ arguments }}

# The documentation in site/.
docs:
    uv run python tools/make_cli_reference.py
    uv run mkdocs build --strict

# Wheel and sdist in dist/.
build:
    uv build

# constraints.txt from what .venv has.
constraints:
    .ci/versions > constraints.txt
