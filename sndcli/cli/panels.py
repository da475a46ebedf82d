"""Which panel of ``--help`` each option stands in, for commands that run a model: the one place that says so.

Panels come in the order of `PANELS`, options in theirs, the rare ones last. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sndcli import plugins
from sndcli.cli.command import Runner

PANELS: Mapping[str, Sequence[str]] = {
    "Model": (
        "model", "dataset", "data_dir", "download", "images", "select", "select_by", "image_ids", "classes",
        "skip_broken",
    ),
    "Defense": ("defense", "sigma", "sigmas", "beta", "betas", "defense_weights", "clip", "quantize"),
    "Attack": (
        "access", "preset", "settings", "eps", "norm", "votes", "ladder", "sigma_hat", "reference", "target", "engine",
        "pgd",
        "pgd_images",
    ),
    "Budget": ("budget", "budgets", "per_vote_budget", "quick"),
    "Measuring": (
        "seed", "repeats", "stop", "verify", "accuracy_repeats", "max_drop", "mismatch", "boundary",
    ),
    "Machine": (
        "device", "workers", "batch_size", "precision", "allow_rounding", "compiled", "unit", "executor", "address",
        "shard",
    ),
    "Output": (
        "out", "dry_run", "fail_if", "format", "json", "quiet", "no_progress", "details", "plot", "save_png",
        "save_points", "fresh", "config", "debug", "help",
    ),
    "Remote model": (
        "endpoint", "i_am_authorised", "rate", "concurrency", "timeout", "retries", "header_env", "client_cert",
        "client_key", "ca_file", "request_log",
    ),
}  # fmt: skip
PLACES = {name: (panel, place) for panel, names in PANELS.items() for place, name in enumerate(names)}
INSTALLED = {"defense": plugins.DEFENSES, "name": plugins.ATTACKS}  # parameters that packages add names to
HYPHEN = "\ue000"  # stands for a hyphen while lines are broken, so that none ends within `--some-option`
EPILOG = "More: docs/noise-aware.md, docs/attacks.md, docs/defenses.md, docs/models.md. All commands: docs/cli.md."


class Panelled(Runner):
    """A command whose help has panels."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.epilog = self.epilog or EPILOG
        order = [*PANELS]
        options: Any = self.params
        for option in options:
            if option.param_type_name == "option":
                option.rich_help_panel = PLACES[str(option.name)][0] if option.name in PLACES else None
        known = [option for option in self.params if option.name in PLACES]
        known.sort(key=lambda option: (order.index(PLACES[option.name][0]), PLACES[option.name][1]))
        self.params = [option for option in self.params if option.name not in PLACES] + known

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then a section a panel; what no panel has stands before them."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            told = each.get_help_record(ctx)
            if told is None:
                continue
            argument = each.param_type_name == "argument"
            panel = "Arguments" if argument else PLACES.get(str(each.name), ("Options", 0))[0]
            sections.setdefault(panel, []).append((told[0], told[1] + _installed(str(each.name))))
        begun = len(formatter.buffer)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, text.replace("-", HYPHEN)) for name, text in rows])
        formatter.buffer[begun:] = [text.replace(HYPHEN, "-") for text in formatter.buffer[begun:]]


def _installed(option: str) -> str:
    """The names that installed packages add to what an option takes; nothing is imported."""
    names = plugins.names(INSTALLED[option]) if option in INSTALLED else []
    return f" Installed: {', '.join(names)}." if names else ""
