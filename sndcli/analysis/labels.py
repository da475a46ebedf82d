"""What settings that are shown together are called: no two alike, and each as everywhere else where it can be."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace

from sndcli.analysis.setting import Setting

SHORTEST = 8  # characters of a digest that are shown
# Keys of a setting by what they are of; `options.…` are the attack's too.
ATTACK = ("attack", "engine", "preset", "settings", "references", "target")
MODEL = ("model", "model_digest")
DATA = ("dataset", "dataset_digest")
DEFENSE = ("defense", "sigma", "beta", "clip", "weights", "weights_digest")
DIGESTS = {"weights_digest"}


def tell_apart(settings: Iterable[Setting]) -> dict[Setting, Setting]:
    """Each setting with the tags without which two of them would read alike.

    A model (or data set) has its digest beside its name where another of that name is among them. What else two
    settings of the same words differ in is added to the words, as ``key=value``.

    Settings that may be pooled are one and are called the same.
    """
    distinct = {setting: setting.pooled for setting in settings}
    models = _tags(distinct.values(), lambda s: (s.model, s.model_digest))
    data = _tags(distinct.values(), lambda s: (s.dataset, s.dataset_digest))
    groups: dict[str, dict[Setting, None]] = defaultdict(dict)
    for pooled in distinct.values():
        tagged = replace(
            pooled, model_tag=models.get((pooled.model, pooled.model_digest), ""),
            data_tag=data.get((pooled.dataset, pooled.dataset_digest), ""), tags=(),
        )  # fmt: skip
        groups[tagged.label].setdefault(tagged)
    tagged_of: dict[Setting, Setting] = {}
    for members in groups.values():
        tagged_of |= _apart(list(members))
    return {
        setting: replace(
            setting, model_tag=tagged_of[pooled].model_tag, data_tag=tagged_of[pooled].data_tag,
            tags=tagged_of[pooled].tags,
        )
        for setting, pooled in distinct.items()
    }  # fmt: skip


def _tags(settings: Iterable[Setting], of: Callable[[Setting], tuple[str, str]]) -> dict[tuple[str, str], str]:
    """For each name that stands for several digests, what tells them apart; others have none."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for name, digest in map(of, settings):
        by_name[name].add(digest)
    return {
        (name, digest): f"@{short}"
        for name, digests in by_name.items()
        if len(digests) > 1
        for digest, short in shortened(digests).items()
    }


def shortened(digests: Iterable[str]) -> dict[str, str]:
    """The beginnings of digests that tell them apart, of eight characters at least."""
    known = {*digests}
    length = SHORTEST
    while len({digest[:length] for digest in known}) < len(known):
        length += 1
    return {digest: digest[:length] or "unknown" for digest in known}


def _apart(members: Sequence[Setting]) -> dict[Setting, Setting]:
    """Settings of the same words, each with what it differs from the others in."""
    if len(members) == 1:
        return {members[0]: members[0]}
    told = [facts(setting) for setting in members]
    known = [key for key in dict.fromkeys(key for one in told for key in one) if key not in (*MODEL, *DATA)]
    keys = [key for key in known if len({one.get(key) for one in told}) > 1]
    texts: dict[str, dict[str, str]] = {
        key: shortened(one.get(key, "") for one in told) for key in keys if key in DIGESTS
    }
    return {
        setting: replace(setting, tags=tuple(_word(key, one.get(key), texts.get(key, {})) for key in keys))
        for setting, one in zip(members, told, strict=True)
    }


def _word(key: str, value: str | None, short: Mapping[str, str]) -> str:
    return f"{key.removeprefix('options.')}={'none' if value is None else short.get(value, value)}"


def facts(setting: Setting) -> dict[str, str]:
    """All that tells a setting from others, as text by the key of ``--where``; what is empty is left out.

    A preset whose numbers are those of another is told by its name only.
    """
    found: dict[str, str] = {}
    for f in fields(Setting):
        value = getattr(setting, f.name)
        if not f.compare or f.name in ("options", "other") or value in (None, "", ()):
            continue
        found[f.name] = ", ".join(map(str, value)) if isinstance(value, tuple) else _text(value)
    if setting.options:
        found |= {f"options.{key}": json.dumps(value) for key, value in json.loads(setting.options).items()}
    return found | dict(setting.other)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parts(setting: Setting) -> tuple[str, ...]:
    """A label in pieces: attack, defense, model, data set, bound."""
    return setting.attacked, setting.defended, setting.modelled, setting.data, setting.bound
