# `just check test` is what a change needs to pass.

# Lint, format and types.
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy

# The default tests; `just test -m slow` for the long ones, `just test --cov` for branch coverage.
test *arguments:
    uv run pytest {{ arguments }}

# Wheel and sdist in dist/.
build:
    uv build

# constraints.txt from what .venv has.
constraints:
    .ci/versions > constraints.txt
