"""The columns of a result file: one row an image and seed. What each means stands here, and docs/data.md prints it.

Distances are in the run's norm, on the [0, 1] pixel scale. Lists run along the report points in `budgets`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

TEXT, INT, LONG, REAL, FLAG = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
REALS, FLAGS = pa.list_(REAL), pa.list_(FLAG)

Config = Mapping[str, object]  # as `RunConfig.as_dict` makes it, perhaps through JSON


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: of it.
        type: of it.
        meaning: in a sentence, with what null says where there can be nulls.
        of: how it follows from the config of the run, for the columns that do.
    """

    name: str
    type: pa.DataType
    meaning: str
    of: Callable[[Config], object] | None = None

    @property
    def nested(self) -> bool:
        """Whether its values are lists or maps."""
        return bool(pa.types.is_nested(self.type))


def _plain(name: str, type: pa.DataType, meaning: str, key: str = "") -> Column:
    """A field of the config as it stands there, null where the config does not have it."""
    return Column(name, type, meaning, lambda config: config.get(key or name))


def _defense(name: str, type: pa.DataType, meaning: str, key: str = "") -> Column:
    """A field of the config's defense."""

    def of(config: Config) -> object:
        defense = config["defense"]
        return defense.get(key or name) if isinstance(defense, Mapping) else None

    return Column(name, type, meaning, of)


def _json(name: str, meaning: str) -> Column:
    """A mapping of the config as JSON text with sorted keys."""
    return Column(name, TEXT, meaning, lambda c: json.dumps(c[name], sort_keys=True) if c.get(name) else None)


def _references(config: Config) -> list[str]:
    found = config.get("references") or ()
    return [" ".join(pair) for pair in found] if isinstance(found, Sequence) else []


def _radii(config: Config) -> object:
    return config.get("eps_also") or []


OF_RUN = (
    Column("protocol", INT, "its number; under one, draws and definitions stay", lambda c: c.get("protocol", 1)),
    _plain("attack", TEXT, "name of the attack"),
    _plain("engine", TEXT, "native or foolbox"),
    _plain("preset", TEXT, "parameter set of the attack; null: its default"),
    _plain("settings", pa.list_(TEXT), "`--set` options"),
    _json("options", "the hyper-parameters that preset and settings stand for, as JSON; null for another engine"),
    _plain("dataset", TEXT, "name of the data set"),
    _plain("dataset_source", TEXT, "where its images came from"),
    _plain("dataset_digest", TEXT, "which copy of it"),
    _plain("model", TEXT, "name of the model"),
    _plain("model_digest", TEXT, "which weights"),
    _defense("defense", TEXT, "`none`, or names joined by +, outermost last", "name"),
    _defense("sigma", REAL, "σ of snd; 0 without it"),
    _defense("beta", REAL, "a of Beta(a, a); null: none"),
    _defense("clip", FLAG, "whether the noisy image is clipped to [0, 1]"),
    _defense("weights", TEXT, "of a trained defense; null: it has none"),
    _defense("weights_digest", TEXT, "which weights those are"),
    _plain("votes", INT, "T, answers to a question, all paid"),
    _plain("norm", TEXT, "l2 or linf"),
    _plain("eps", REAL, "ε, the bound of the attack"),
    Column("eps_also", REALS, "further ε at which points were verified; empty: none", _radii),
    _plain("budget", LONG, "hard limit of paid queries an image"),
    _plain("images", LONG, "images asked for"),
    _plain("select", TEXT, "which images: correct or all"),
    _plain("select_by", TEXT, "name and digest of another model that chose the images; null: the attacked one did"),
    _plain("first_seed", LONG, "seed of the run; `seed` is that of the row", "seed"),
    _plain("repeats", INT, "how many seeds"),
    _plain("verify", INT, "fresh draws asked for; `verify_draws` are those made"),
    _plain("quantize", FLAG, "whether queries were 8-bit images"),
    _plain("mismatch", FLAG, "whether P_mis was counted"),
    _plain("boundary", FLAG, "whether the majority boundary was measured", "border"),
    _plain("precision", TEXT, "fp32 or bf16"),
    _plain("compiled", FLAG, "whether the networks were compiled"),
    Column("device", TEXT, "type of the device of the networks: cpu or cuda", lambda c: c.get("device") or "cpu"),
    Column("references", pa.list_(TEXT), "name and digest of the attacker's own models", _references),
    Column(
        "target",
        TEXT,
        "the label that a targeted attack is after: next, random or a class; null: untargeted",
        lambda c: c.get("target") or None,
    ),
    Column("stop", TEXT, "what ends an image's attack: seen, confirmed or verified", lambda c: c.get("stop") or "seen"),
    Column(
        "image_ids",
        pa.list_(LONG),
        "the images, where they were named; empty: they were chosen",
        lambda c: c.get("image_ids") or [],
    ),
    _json("plugins", "package, version and source hash of the plug-ins used, as JSON; null: none"),
)

OF_ROW = (
    Column("run_id", TEXT, "a hash of everything that decides the run's figures"),
    Column("seed", LONG, "of all randomness of the row"),
    Column("image_id", LONG, "the image's number in its data set"),
    Column("label", INT, "its true class"),
    Column("target_label", INT, "the label it was to be given; null: untargeted"),
    Column("start_image", LONG, "the image of that label that was offered first as a start; null: untargeted"),
    Column("status", TEXT, "ok or failed"),
    Column("stop_reason", TEXT, "why its attack ended"),
    Column("queries", LONG, "paid"),
    Column("queries_by_phase", pa.map_(TEXT, LONG), "what they were for; they add up to `queries`"),
    Column("budgets", pa.list_(LONG), "report points, ascending; the last is `budget`"),
    Column("seen", FLAGS, "some paid query inside ε was answered wrong"),
    Column("noisy", FLAGS, "the submitted point is inside ε and, moved out, errs in half of draws; null: not known"),
    Column("as_submitted", FLAGS, "the same of the point as it was submitted"),
    Column("clean", FLAGS, "as noisy, of the undefended model; null: not known"),
    Column("distance_best", REALS, "of the closest wrong answer so far; infinite: none"),
    Column("distance_last", REALS, "of the last paid query"),
    Column("distance_submitted", REALS, "of the point submitted; infinite: none"),
    Column("distance_boundary", REALS, "where the majority flips on its ray; infinite: nowhere; null: not measured"),
    Column("p_adv", REALS, "share of fresh draws that err on the submitted point moved out to ε; null: not known"),
    Column("adv_clean", FLAGS, "whether the undefended model errs on it; null: not known"),
    Column("p_adv_submitted", REALS, "as p_adv, of the point as it was submitted"),
    Column("adv_clean_submitted", FLAGS, "as adv_clean, of the point as it was submitted"),
    Column("p_adv_also", pa.list_(REALS), "as p_adv, for each ε of `eps_also`, then along `budgets`"),
    Column("adv_clean_also", pa.list_(FLAGS), "as adv_clean, likewise"),
    Column("verify_draws", INT, "fresh draws behind p_adv, at most (see concepts); 1 without randomness"),
    Column("p0", REAL, "share of fresh draws that err on the clean image; NaN: none was answered"),
    Column("p_mis_clean", REAL, "share of fresh draws on it whose label is not the undefended one; null: not known"),
    Column("clean_draws", INT, "fresh draws behind these two"),
    Column("initially_wrong", FLAG, "whether the first paid query, the clean image, was answered wrong"),
    Column("mismatches", LONG, "paid queries whose label was not the undefended one; null: not counted"),
    Column("blocked", LONG, "paid queries that a stateful defense detected, and mostly blocked; null: not counted"),
    Column("detected_at", LONG, "the first of them; null: none"),
    Column("event_query", pa.list_(LONG), "when a wrong answer was closer than all before"),
    Column("event_distance", REALS, "how close it was; with `event_query` any (Q, ε) of `seen` follows"),
)  # fmt: skip

COLUMNS = (OF_ROW[0], *OF_RUN, *OF_ROW[1:])
SCHEMA = pa.schema([(column.name, column.type) for column in COLUMNS])
EVENTS = ("event_query", "event_distance")  # most of a file's bytes


@dataclass(frozen=True)
class Entry:
    """One entry of what a file says of its run, ``run`` in the schema's metadata (`results.Metadata`)."""

    name: str
    type: str
    meaning: str


METADATA = (
    Entry("id", "text", "of the run, as `run_id`"),
    Entry("config", "object", "what decides the run's figures; the columns from `protocol` to `plugins` are of it; "
          "`device` is its type, where it is not the CPU"),
    Entry("protocol", "number", "as the column"),
    Entry("made", "text", "when it was finished, UTC"),
    Entry("command", "text", "the command line as it was typed"),
    Entry("commit", "text or null", "of the package, where it was run from a checkout; `-dirty` where it was changed"),
    Entry("versions", "object", "sndcli, Python, torch, torchvision, NumPy, SciPy, PyArrow, Foolbox where it was used, "
          "the packages of plug-ins, and the device"),
    Entry("streams", "text", "`image`, or `unit` where the images of a unit share a stream of draws"),
    Entry("unit", "number", "images that shared a loop"),
    Entry("fingerprint", "text", "of the machine's arithmetic, a hash of the logits of 16 images; several where parts "
          "were computed with arithmetic that differs, none where asking costs"),
    Entry("wall_s", "number", "seconds it took, those of interrupted processes included"),
    Entry(
        "scales", "object",
        "how far the attack looks at ε: `probe` and `search`, null: not known; `sigma_all`: of all noise on the image",
    ),
    Entry("passes_differ", "truth or null", "whether two passes on one image differed; null without a random defense"),
    Entry("rounding", "object", "noise in rounding alone: `sigma`, the σ_round of the network, and `share` of the "
          "defense's own noise; 0 in fp32, null: not known, or no defense"),
    Entry("answers_to_choose", "number", "unpaid answers whose majority chose the images, without a bare model"),
    Entry("sent", "object", "of a remote model: requests, retries and failures"),
)  # fmt: skip


def of_config(config: Config) -> dict[str, object]:
    """The columns that are the same for all rows of a run.

    Args:
        config: as `RunConfig.as_dict` makes it, or as a file's metadata has it.
    """
    return {column.name: column.of(config) for column in OF_RUN if column.of is not None}


def repeated(config: Config, rows: int, wanted: Sequence[str] | None = None) -> dict[str, pa.Array]:
    """The same as arrays of so many rows.

    Args:
        config: of the run.
        rows: how many.
        wanted: names of columns; None: all.
    """
    types = {column.name: column.type for column in OF_RUN}
    return {
        name: pa.repeat(pa.scalar(value, types[name]), rows)
        for name, value in of_config(config).items()
        if wanted is None or name in wanted
    }


def markdown() -> str:
    """The columns as a Markdown table."""
    lines = [f"| `{c.name}` | {_type(c.type)} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *lines])


def metadata_markdown() -> str:
    """What a file says of its run, as a Markdown table."""
    lines = [f"| `{entry.name}` | {entry.type} | {entry.meaning} |" for entry in METADATA]
    return "\n".join(["| entry | type | meaning |", "| --- | --- | --- |", *lines])


def _type(type: pa.DataType) -> str:
    return str(type).replace("item: ", "").replace("element: ", "")
