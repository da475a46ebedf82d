"""Folders of pictures. All pictures are made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Done
from PIL import Image
from torch import Tensor
from torchvision import models
from torchvision.transforms.functional import normalize

from sndcli.datasets import folder, imagenet
from sndcli.datasets.base import ImageSet
from sndcli.datasets.folder import FolderSet, Reading
from sndcli.datasets.load import choose, load
from sndcli.errors import ConfigError, DataError
from sndcli.models.preprocessing import Preprocessing, of_timm, of_torchvision, usual, whole
from sndcli.models.sources import digest
from sndcli.runs.listener import Listener
from sndcli.runs.prepare import prepare
from sndcli.runs.request import Request

Snd = Callable[..., Done]
SYNSETS = {"n01440764": 0, "n01443537": 1, "n02123045": 281, "n15075141": 999}
SMALL = Reading(Preprocessing(24, 28))


def picture(path: Path, seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (50, 40)) -> Path:
    """Smooth random pixels, so that JPEG and resizing have something to do."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, quality=95)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k, synset in enumerate(SYNSETS):
        for j in range(3):
            picture(tmp_path / "val" / synset / f"ILSVRC2012_val_{4 * j + k + 1:08d}.JPEG", 10 * k + j)
    return tmp_path


def test_labels_are_the_synsets_and_not_the_folders_order(root: Path) -> None:
    data = imagenet.load(root, SMALL)
    assert len(data) == 12
    assert data.labels.unique().tolist() == sorted(SYNSETS.values())
    for file, label in zip(data.files, data.labels.tolist(), strict=True):
        assert SYNSETS[file.parent.name] == label
    assert sorted(data.ids.tolist()) == list(range(1, 13))
    assert len(data.classes) == 1000
    assert torch.equal(imagenet.load(root / "val", SMALL).labels, data.labels)


def test_the_list_is_in_the_order_of_the_labels() -> None:
    names = imagenet.synsets()
    assert len(set(names)) == 1000
    assert list(names) == sorted(names)
    # The classes' names that torchvision's weights carry, at places known from the data set's own list
    named = models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    for synset, word in {"n01440764": "tench", "n02123045": "tabby", "n02979186": "cassette player"}.items():
        assert named[names.index(synset)] == word


@pytest.mark.parametrize(
    "weights", [models.ResNet50_Weights.IMAGENET1K_V1, models.ResNet50_Weights.IMAGENET1K_V2,
                models.Inception_V3_Weights.IMAGENET1K_V1, models.Swin_T_Weights.IMAGENET1K_V1],
)  # fmt: skip
@pytest.mark.parametrize("size", [(500, 375), (333, 500), (120, 90)])
def test_pixels_are_those_of_torchvisions_transform(
    weights: models.Weights, size: tuple[int, int], tmp_path: Path
) -> None:
    reference = weights.transforms()
    path = picture(tmp_path / "n01440764" / "a.JPEG", size=size)
    data = imagenet.load(tmp_path, Reading(of_torchvision(reference)))
    mine = normalize(data.pixels()[0], reference.mean, reference.std)
    assert torch.equal(mine, reference(Image.open(path).convert("RGB")))


def test_pixels_are_those_of_timms_transform(tmp_path: Path) -> None:
    data_tools = pytest.importorskip("timm.data", reason="needs the extra timm")
    path = picture(tmp_path / "n01440764" / "a.JPEG", size=(500, 375))
    for mode, crop in (("center", 0.9), ("squash", 1.0)):
        config = {"input_size": (3, 160, 160), "interpolation": "bicubic", "crop_pct": crop, "crop_mode": mode,
                  "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # fmt: skip
        reference = data_tools.create_transform(**config, is_training=False)(Image.open(path))
        mine = imagenet.load(tmp_path, Reading(of_timm(config))).pixels()[0]
        torch.testing.assert_close(normalize(mine, config["mean"], config["std"]), reference, atol=1e-6, rtol=0)
    with pytest.raises(ConfigError, match="crop mode `border`"):
        of_timm(config | {"crop_mode": "border"})


def test_pictures_of_the_networks_size_stay_as_they_are(tmp_path: Path) -> None:
    path = picture(tmp_path / "a" / "x.png", size=(32, 32))
    data = imagenet.load_folder(tmp_path, Reading(whole(32)))
    expected = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
    assert torch.equal((data.pixels()[0] * 255).round().byte(), expected)


def test_grey_cmyk_and_palette_become_rgb(tmp_path: Path) -> None:
    for mode, suffix in (("L", "JPEG"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png")):
        picture(tmp_path / "n01440764" / f"{mode}.{suffix}", mode=mode)
    pixels = imagenet.load(tmp_path, SMALL).pixels()
    assert pixels.shape == (4, 3, 24, 24)
    assert 0 <= pixels.min() < pixels.max() <= 1
    grey = pixels[[f.stem for f in imagenet.load(tmp_path, SMALL).files].index("L")]
    assert torch.equal(grey[0], grey[2])


def broken(root: Path) -> Path:
    path = sorted((root / "val" / "n01443537").iterdir())[1]
    path.write_bytes(path.read_bytes()[:300])
    return path


def test_a_truncated_picture_is_named_or_left_out(root: Path) -> None:
    path = broken(root)
    with pytest.raises(DataError, match=path.name) as caught:
        imagenet.load(root, SMALL).pixels()
    assert "--skip-broken" in str(caught.value)
    told: list[str] = []
    data = imagenet.load(root, Reading(SMALL.preprocessing, skip_broken=True, warn=told.append))
    chosen = choose(data, 11, "all", 0, lambda x: x.flatten(1).argmax(1))
    assert data.files.index(path) not in chosen.tolist()
    assert len(chosen) == 11
    assert data.left_out == len(told) == 1
    assert path.name in told[0]
    with pytest.raises(ConfigError, match="at most 11"):
        choose(data, 12, "all", 0, lambda x: x.flatten(1).argmax(1))


def test_choosing_decodes_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(300):
        picture(tmp_path / "n01440764" / f"{k:03d}.png", k, size=(8, 8))
    data = imagenet.load(tmp_path, Reading(whole(8)))
    read: list[int] = []
    original = FolderSet._read

    def noted(self: FolderSet, k: int) -> tuple[Tensor | None, str]:
        read.append(k)
        return original(self, k)

    monkeypatch.setattr(FolderSet, "_read", noted)
    choose(data, 5, "all", 0, lambda x: x)
    assert len(read) <= 128
    data.digest()
    first = data.pixels(torch.tensor(read[:3]))
    assert len(read) <= 128
    assert torch.equal(first, imagenet.load(tmp_path, Reading(whole(8))).pixels()[read[:3]])


def test_a_full_cache_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_set = imagenet.load(root, SMALL).pixels()
    monkeypatch.setattr(folder, "CACHE_BYTES", 4 * 3 * 24 * 24)
    data = imagenet.load(root, SMALL)
    for index in torch.arange(12).split(5):
        assert torch.equal(data.pixels(index), whole_set[index])
        assert len(data._cache) <= 5
    assert torch.equal(data.pixels(), whole_set)


def test_digest_follows_files_labels_and_preprocessing(root: Path) -> None:
    first = imagenet.load(root, SMALL).digest()
    assert first == imagenet.load(root, SMALL).digest()
    assert first != imagenet.load(root, Reading(Preprocessing(24, 26))).digest()
    picture(root / "val" / "n01440764" / "more.png")
    assert first != imagenet.load(root, SMALL).digest()


def test_folders_of_other_names_are_numbered_and_synsets_keep_their_labels(root: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    picture(plain / "dog" / "a.png")
    picture(plain / "cat" / "b.png")
    (plain / ".hidden").mkdir()
    (plain / "cat" / "notes.txt").write_text("not a picture")
    data = load(f"folder:{plain}", reading=SMALL)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1]
    assert isinstance(data, ImageSet)
    assert load(f"folder:{root}/val", reading=SMALL).labels.unique().tolist() == sorted(SYNSETS.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: picture(p / "val" / "n01440765" / "a.JPEG"), r"none of ImageNet's 1,000 synsets: n01440765"),
        (lambda p: picture(p / "val" / "ILSVRC2012_val_00000001.JPEG"), "not sorted into folders"),
        (lambda p: (p / "ILSVRC2012_img_val.tar").write_bytes(b""), "still packed"),
        (lambda p: (p / "val" / "n01440764").mkdir(parents=True), "No pictures"),
        (lambda p: None, "No synset folders"),
    ],
)
def test_folders_that_are_not_imagenet_say_why(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        imagenet.load(tmp_path, SMALL)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir"):
        load("imagenet", None, reading=SMALL)
    with pytest.raises(DataError, match="does not exist"):
        load("imagenet", tmp_path / "no", reading=SMALL)
    with pytest.raises(DataError, match="does not exist"):
        load(f"folder:{tmp_path}/no", reading=SMALL)
    with pytest.raises(ConfigError, match="no download"):
        load("imagenet", tmp_path, download=True, reading=SMALL)
    with pytest.raises(ConfigError, match="Did you mean `imagenet`"):
        load("imagnet", tmp_path, reading=SMALL)


def test_usual_crop() -> None:
    assert usual(224) == Preprocessing(224, 256)
    with pytest.raises(ConfigError, match="size <= resize"):
        Preprocessing(224, 200)
    with pytest.raises(ConfigError, match="Did you mean `bicubic`"):
        Preprocessing(224, 256, "bicubik")


VICTIM = "py:imagenet_victims:tiny"


@pytest.fixture
def victims(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module as a user would write one: 1,000 classes, any input size, fixed weights."""
    place = tmp_path_factory.mktemp("victims")
    (place / "imagenet_victims.py").write_text(
        "import torch\n"
        "def tiny():\n"
        "    print('this must not reach stdout')\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU(),\n"
        "        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 1000))\n"
    )
    monkeypatch.syspath_prepend(str(place))


RUN = ("--dataset", "imagenet", "--select", "all", "--images", 4, "--budget", 60, "--verify", 4, "--no-progress")


@pytest.mark.parametrize("attack", ["hsja", "geoda", "square"])
def test_attacks_run_on_a_folder(snd: Snd, root: Path, victims: None, tmp_path: Path, attack: str) -> None:
    model = VICTIM + "?size=40&resize=44&interpolation=bicubic&norm=imagenet"
    done = snd("attack", attack, "--data-dir", root, "--model", model, *RUN, "--defense", "rnp+snd", "--json",
               "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["rows"][-1]["eps"] == 5.0
    assert answer["rows"][-1]["queries_max"] <= 60
    assert str(root) not in json.dumps(answer["run"]["config"])
    again = snd("attack", attack, "--data-dir", root, "--model", model, *RUN, "--defense", "rnp+snd", "--json",
                "--out", tmp_path / "out")  # fmt: skip
    assert json.loads(again.stdout)["rows"] == answer["rows"]


def test_accuracy_counts_what_was_read(snd: Snd, root: Path, victims: None) -> None:
    path = broken(root)
    options = ("accuracy", "--dataset", "imagenet", "--data-dir", root, "--model", VICTIM + "?size=24", "--json")
    refused = snd(*options)
    assert refused.returncode == 2
    assert path.name in refused.stderr
    done = snd(*options, "--skip-broken")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["n"] == 11
    assert path.name in done.stderr


@pytest.mark.default_model
def test_a_model_of_other_classes_or_one_without_a_size_is_refused(snd: Snd, root: Path, victims: None) -> None:
    done = snd("accuracy", "--dataset", "imagenet", "--data-dir", root)
    assert done.returncode == 2
    assert "Expected 10 classes for resnet20 but imagenet has 1000" in done.stderr


def test_dry_run_says_what_would_be_done_and_writes_nothing(
    snd: Snd, root: Path, victims: None, tmp_path: Path
) -> None:
    options = ("--dataset", "imagenet", "--data-dir", root, "--model", VICTIM + "?size=40", "--images", 4,
               "--dry-run", "--out", tmp_path / "out")  # fmt: skip
    done = snd("attack", "hsja", *options, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (row,) = answer["rows"]
    assert row["queries"] == 4 * 20_000
    assert answer["run"]["report_points"] == [5_000, 10_000, 20_000]
    assert answer["run"]["config"]["eps"] == 5.0
    assert row["seconds"] <= row["seconds_at_most"]
    voted = json.loads(snd("adaptive", "hsja", "--votes", 5, "--per-vote-budget", *options, "--json").stdout)
    assert voted["rows"][0]["queries"] == 5 * row["queries"]
    sweep = json.loads(snd("sigma-sweep", "hsja", "--sigmas", "0,0.01", *options, "--json").stdout)
    assert [r["sigma"] for r in sweep["rows"]] == [0.0, 0.01]
    text = snd("attack", "hsja", *options, "--sigma", 0.01)
    assert "80,000 paid queries" in text.stdout
    assert not (tmp_path / "out").exists()
    too_many = snd("attack", "hsja", *options[:-5], "--images", 13, "--dry-run")
    assert too_many.returncode == 2
    assert "at most 12" in too_many.stderr


def test_reproduce_takes_references_for_subspace(snd: Snd, root: Path, victims: None, tmp_path: Path) -> None:
    model = VICTIM + "?size=40"
    options = ("reproduce", "table8", "--images", 4, "--data-dir", root, "--model", model, "--dry-run", "--json",
               "--out", tmp_path / "out")  # fmt: skip
    states = {run["state"] for run in json.loads(snd(*options).stdout)["runs"]}
    assert any("needs --reference" in state for state in states)
    assert "to run" not in states
    listed = json.loads(snd(*options, "--reference", model).stdout)["runs"]
    assert [run["defense"] for run in listed if run["state"] == "to run"] == ["none", "snd 0.01", "snd 0.001", "rnp"]
    other = json.loads(snd("reproduce", "table3", *options[2:], "--where", "attack=hsja", "--reference", model).stdout)
    assert "to run" in {run["state"] for run in other["runs"]}


def test_a_choosing_model_sees_the_pictures_of_its_own_runs(root: Path, victims: None) -> None:
    """The attacked model has other pixels of the same files."""
    request = Request(
        attack="null", dataset="imagenet", data_dir=root, model=VICTIM + "?size=40", select_by=VICTIM + "?size=24"
    )
    job = prepare(request, Listener())
    assert job.chooser is not None
    seen, other = job.chooser
    assert (job.data.size[-1], seen.size[-1], other.input_size[-1]) == (40, 24, 24)
    assert torch.equal(seen.ids, job.data.ids)
    assert job.config.select_by == f"{other.name} {digest(other)} {seen.digest()}"


def test_cifar_keeps_its_defaults(snd: Snd, tmp_path: Path) -> None:
    done = snd("attack", "hsja", "--dry-run", "--json", "--out", tmp_path)
    answer = json.loads(done.stdout)
    assert answer["run"]["report_points"] == [2_000, 5_000, 10_000]
    assert answer["run"]["config"]["budgets"] == []
    assert (answer["rows"][0]["images"], answer["rows"][0]["budget"]) == (100, 10_000)
    assert answer["run"]["config"]["eps"] == 1.0
