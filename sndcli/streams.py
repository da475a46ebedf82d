"""Random streams: one for each (seed, image, purpose, site), so that what an image meets is its own.

Two rows of different images never share draws, and an image's draws do not depend on which other images share its
batch or its work unit. On CUDA a stream an image would cost more than the network, so there one stream serves a whole
work unit (`UnitStreams`), and results say so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from sndcli.errors import ConfigError
from sndcli.laws import Law, Taken

Purpose = Literal["attack", "defense", "verification", "clean", "boundary", "final", "accuracy", "self-test", "confirm"]
PURPOSES: tuple[Purpose, ...] = (
    "attack", "defense", "verification", "clean", "boundary", "final", "accuracy", "self-test"
)  # fmt: skip
SITES = 256  # places that draw, an image and purpose: the layers of a network, say
HALF = SITES // 2  # of these two purposes, which share their numbers, so that those of all others stay
SHARING: dict[Purpose, tuple[Purpose, int]] = {"final": ("final", 0), "confirm": ("final", HALF)}
LARGEST_ID = 2**32 // (len(PURPOSES) * SITES) - 1
ALIGNMENT = 16  # elements; CPU normal draws are a plain stream only in multiples of this


def hashed(seed: int, unit: int, purpose: str) -> int:
    """A seed for (seed, unit, purpose), where a whole work unit shares a stream."""
    h = hashlib.blake2b(f"{seed}/{unit}/{purpose}".encode(), digest_size=7)
    return int.from_bytes(h.digest(), "big")


def seed_of(seed: int, image_id: int, purpose: Purpose, site: int = 0) -> int:
    """Seed in [0, 2³²) of the stream of one image, purpose and site: no two of one `seed` are alike.

    torch's CPU generator uses only the low 32 bits of its seed, where hashes of some ten thousand images would
    collide. So `seed` chooses a permutation of all 32-bit numbers, and the place (image, purpose, site) is sent
    through it: multiplied by an odd number, shifted, and mixed by the finaliser of MurmurHash3 (a bijection).

    Raises:
        ConfigError: an image id or site outside of its range.
    """
    if not 0 <= image_id <= LARGEST_ID:
        raise ConfigError(f"Expected image ids from 0 to {LARGEST_ID:,} but got {image_id}.")
    shared, first = SHARING.get(purpose, (purpose, 0))
    most = HALF if purpose in SHARING else SITES
    if not 0 <= site < most:
        raise ConfigError(f"Expected at most {most} places that draw, but there are more.")
    key = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    odd, shift = int.from_bytes(key[:4], "big") | 1, int.from_bytes(key[4:], "big")
    place = (image_id * len(PURPOSES) + PURPOSES.index(shared)) * SITES + first + site
    h = (odd * place + shift) % 2**32
    for bits, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = ((h ^ (h >> bits)) * factor) % 2**32
    return h


PassOver = Callable[[int, int, int], object]


class Streams(Protocol):
    """Draws for rows, each of which belongs to an image."""

    def normal(self, image: Tensor, like: Tensor, site: int = 0) -> Tensor:
        """Standard normal ``[M, …]`` in the shape of the rows of `like`, on its device, in its type.

        Args:
            image: int64 ``[M]``, index of the image that each row is for. Rows of one image are drawn in order.
            like: ``[any, …]``.
            site: which place asks; each has a stream of its own, so that it does not matter in which order the rows of
                two places are drawn.
        """
        ...

    def uniform(self, image: Tensor, like: Tensor, site: int = 0) -> Tensor:
        """As `normal`, uniform on [0, 1)."""
        ...

    def gamma(self, image: Tensor, shape: float, like: Tensor, site: int = 0) -> Tensor:
        """As `normal`, from the Gamma distribution with this shape parameter and scale 1."""
        ...

    def seeds(self, image: Tensor) -> list[int]:
        """A seed for each row, for code that wants a generator of its own."""
        ...


class ImageStreams:
    """A generator for each image and site, on the CPU.

    Args:
        seed: of the run.
        image_ids: ids of the images, by index.
        purpose: what the draws are for.
    """

    def __init__(self, seed: int, image_ids: Sequence[int], purpose: Purpose) -> None:
        self._seed, self._ids, self._purpose = seed, [int(i) for i in image_ids], purpose
        self._generators: dict[tuple[int, int], torch.Generator] = {}
        self._taken: Taken | None = None

    def _generator(self, image: int, site: int) -> torch.Generator:
        key = (image, site)
        if key not in self._generators:
            seed = seed_of(self._seed, self._ids[image], self._purpose, site)
            self._generators[key] = torch.Generator().manual_seed(seed)
        return self._generators[key]

    def state(self) -> dict[tuple[int, int], Tensor]:
        """(index of the image, site) -> state of its generator, of all that have drawn."""
        return {key: generator.get_state() for key, generator in self._generators.items()}

    def set_state(self, state: Mapping[tuple[int, int], Tensor]) -> None:
        """Goes on where `state` was taken."""
        self._generators = {key: torch.Generator().set_state(kept.clone()) for key, kept in state.items()}

    @contextmanager
    def recorded(self) -> Iterator[PassOver]:
        """See `passing_over`."""
        taken = self._taken = Taken()
        try:
            yield lambda image, made, more: taken.pass_over(image, made, more, self._generator)
        finally:
            self._taken = None

    def _drawn(self, image: Tensor, site: int, law: Law) -> Tensor:
        out = law.empty(len(image))
        for start, stop, which in _runs(image):
            law.fill(out[start:stop], self._generator(which, site))
            if self._taken is not None:
                self._taken.note(which, site, stop - start, law)
        return out

    def normal(self, image: Tensor, like: Tensor, site: int = 0) -> Tensor:
        """See `Streams.normal`."""
        size = math.prod(like.shape[1:])
        padded = -(-size // ALIGNMENT) * ALIGNMENT
        return _shaped(self._drawn(image, site, Law("normal", (padded,)))[:, :size], like)

    def uniform(self, image: Tensor, like: Tensor, site: int = 0) -> Tensor:
        """See `Streams.uniform`."""
        return self._drawn(image, site, Law("uniform", tuple(like.shape[1:]), like.dtype)).to(like.device)

    def gamma(self, image: Tensor, shape: float, like: Tensor, site: int = 0) -> Tensor:
        """See `Streams.gamma`."""
        return self._drawn(image, site, Law("gamma", tuple(like.shape[1:]), like.dtype, shape)).to(like.device)

    def seeds(self, image: Tensor) -> list[int]:
        """See `Streams.seeds`."""
        return [seed_of(self._seed, self._ids[i], self._purpose) for i in image.tolist()]


def passing_over(streams: Streams | None) -> AbstractContextManager[PassOver]:
    """Inside, ``pass_over(image, made, more)`` leaves out the draws of `more` answers about an image.

    So that all later draws are those that they would be, had these answers been asked as well. `made` answers about the
    image were asked inside before. Where a defense draws more for one answer than for another, and where a unit shares
    a stream, nothing is left out, and later draws are others.
    """
    return streams.recorded() if isinstance(streams, ImageStreams) else nullcontext(_nothing)


def _nothing(*_: int) -> None:
    pass


class UnitStreams:
    """One generator a site for all images of a work unit: what CUDA uses, and code that takes a generator.

    Args:
        seed: of this unit and purpose.
        device: where to draw.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._device = seed, device
        self._generators: dict[int, torch.Generator] = {}

    def generator(self, site: int = 0) -> torch.Generator:
        """The generator of a site."""
        if site not in self._generators:
            self._generators[site] = torch.Generator(self._device).manual_seed(hashed(self._seed, site, "site"))
        return self._generators[site]

    def normal(self, image: Tensor, like: Tensor, site: int = 0) -> Tensor:
        """See `Streams.normal`."""
        return normal_rows(like.new_empty(1, *like.shape[1:]).expand(len(image), *like.shape[1:]), self.generator(site))

    def uniform(self, image: Tensor, like: Tensor, site: int = 0) -> Tensor:
        """See `Streams.uniform`."""
        out = torch.empty(len(image), *like.shape[1:], dtype=like.dtype, device=self._device)
        return out.uniform_(generator=self.generator(site)).to(like.device)

    def gamma(self, image: Tensor, shape: float, like: Tensor, site: int = 0) -> Tensor:
        """See `Streams.gamma`."""
        out = torch.empty(len(image), *like.shape[1:], dtype=like.dtype, device=self._device)
        return _gamma(out, shape, self.generator(site)).to(like.device)

    def seeds(self, image: Tensor) -> list[int]:
        """See `Streams.seeds`."""
        device = self._device
        drawn = torch.randint(0, 2**32, (len(image),), generator=self.generator(), device=device)
        return [int(value) for value in drawn.tolist()]


def normal_rows(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws of the shape of `like`, on its device, from one generator.

    Row j's draw does not depend on how the rows are split into batches (on the CPU), because rows are drawn in
    multiples of sixteen elements.
    """
    rows, size = len(like), like[0].numel() if len(like) else 0
    padded = -(-size // ALIGNMENT) * ALIGNMENT
    noise = torch.empty(rows, padded, device=generator.device, dtype=torch.float32)
    noise.normal_(generator=generator)
    return _shaped(noise[:, :size], like)


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(len(rows), *like.shape[1:]).to(like.device, like.dtype)


def _gamma(like: Tensor, shape: float, generator: torch.Generator) -> Tensor:
    return torch._standard_gamma(torch.full_like(like, shape), generator=generator)


def _runs(image: Tensor) -> Iterator[tuple[int, int, int]]:
    """(start, stop, image) of each run of rows of one image."""
    start, images = 0, image.tolist()
    for stop in range(1, len(images) + 1):
        if stop == len(images) or images[stop] != images[start]:
            yield start, stop, images[start]
            start = stop


# -- what a defense is told about the rows of a forward pass ---------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Which image each row of a forward pass is for, and the streams that these images draw from."""

    streams: Streams
    image: Tensor

    def repeated(self, rows: int) -> Tensor:
        """`image` for `rows` rows, a multiple of its own, in which each row stands several times in a row."""
        times, rest = divmod(rows, max(1, len(self.image)))
        if rest:
            raise ValueError(f"Expected a multiple of {len(self.image)} rows but got {rows}.")
        return self.image if times == 1 else self.image.repeat_interleave(times)


_ROWS: ContextVar[Rows | None] = ContextVar("rows", default=None)


def current_rows() -> Rows | None:
    """What the harness says of the rows of this forward pass; None outside of a run."""
    return _ROWS.get()


@contextmanager
def drawing(streams: Streams | None, image: Tensor | None) -> Iterator[None]:
    """Inside, defenses draw for row j of a forward pass from the stream of image ``image[j]``."""
    token = _ROWS.set(None if streams is None or image is None else Rows(streams, image))
    try:
        yield
    finally:
        _ROWS.reset(token)


@contextmanager
def drawing_part(start: int, stop: int, rows: int) -> Iterator[None]:
    """Inside, a forward pass is of rows `start` to `stop` of the `rows` that the harness spoke of, if it did."""
    told = current_rows()
    with drawing(told.streams, told.repeated(rows)[start:stop]) if told else nullcontext():
        yield


@contextmanager
def drawing_rows(which: Tensor, rows: int) -> Iterator[None]:
    """Inside, a forward pass is of the rows `which` of the `rows` that the harness spoke of, if it did."""
    told = current_rows()
    with drawing(told.streams, told.repeated(rows)[which.to(told.image.device)]) if told else nullcontext():
        yield


@dataclass
class Source:
    """A place where a defense draws: in a run from the streams of the rows' images, by itself from one generator.

    Attributes:
        generator: of the draws outside of a run.
        site: its number among the places of a defended model.
        own: always draw from `generator`, in a run too.
    """

    generator: torch.Generator
    site: int = 0
    own: bool = field(default=False)

    def normal(self, like: Tensor, rows: Rows | None = None) -> Tensor:
        """Standard normal draws of the shape of `like` ``[M, …]``; `rows` where the caller knows them already."""
        rows = rows or current_rows()
        if rows is None or self.own:
            return normal_rows(like, self.generator)
        return rows.streams.normal(rows.repeated(len(like)), like, self.site)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform on [0, 1) in the shape and type of `like` ``[M, …]``."""
        rows = current_rows()
        if rows is None or self.own:
            out = torch.empty(like.shape, dtype=like.dtype, device=self.generator.device)
            return out.uniform_(generator=self.generator).to(like.device)
        return rows.streams.uniform(rows.repeated(len(like)), like, self.site)

    def gamma(self, shape: float, like: Tensor) -> Tensor:
        """Gamma(`shape`, 1) in the shape and type of `like` ``[M, …]``."""
        rows = current_rows()
        if rows is None or self.own:
            return _gamma(torch.empty_like(like, device="cpu"), shape, self.generator).to(like.device)
        return rows.streams.gamma(rows.repeated(len(like)), shape, like, self.site)
