"""ResNets of torchvision as backbones: blocks, weights, keys, and features that are made batch by batch."""

import hashlib
import io
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision

from methods.contract.settings import SettingError
from methods.networks import backbones, resnet
from methods.networks.backbones import WeightsError
from methods.networks.settings import NetworkSettings
from methods.training import features
from methods.training.config import resolve
from methods.training.fit import Training
from methods.training.prefetch import Prefetcher
from tests.methods import miniatures

SIDE = 64
SMALL = {
    "method": "assume_negative",
    "data.dataset": "coco2014",
    "data.image_size": SIDE,
    "data.val_fraction": 0.25,
    "network.backbone": "resnet18",
    "network.weights": "random",
    "train.batch_size": 5,
    "train.epochs": 2,
}


@pytest.fixture(autouse=True)
def fresh():
    features.prepare.cache_clear()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A miniature of COCO, and a store."""
    folder = tmp_path_factory.mktemp("world")
    return miniatures.write("coco2014", folder / "data"), folder / "store"


@pytest.fixture(scope="module")
def model():
    """torchvision's own model with weights and statistics of its own."""
    torch.manual_seed(1)
    found = torchvision.models.resnet18().train()
    with torch.no_grad():
        found(torch.randn(8, 3, SIDE, SIDE))
    return found.eval()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return str(path)


def training(world, **values):
    return Training(resolve({**SMALL, "data.root": str(world[0]), **values}), world[1])


def loaded(network, folder, seed=1):
    return features.initial_backbone(network, seed, folder).eval()


def expected_map(model, images):
    """torchvision's feature map of uint8 images, normalised by torchvision."""
    pixels = torchvision.transforms.Normalize(mean=resnet.MEAN, std=resnet.STD)(images / 255)
    x = model.maxpool(model.relu(model.bn1(model.conv1(pixels))))
    return model.layer4(model.layer3(model.layer2(model.layer1(x))))


@torch.no_grad()
def test_the_five_blocks_are_torchvisions_model_up_to_its_pooling(model, weights, tmp_path):
    network = NetworkSettings(backbone="resnet18", weights=weights)
    blocks = loaded(network, tmp_path)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    maps = blocks(backbones.of(network).normalise(images))
    assert len(blocks) == 5 and maps.shape == (2, backbones.of(network).width, 2, 2)
    torch.testing.assert_close(maps, expected_map(model, images), rtol=1e-4, atol=1e-5)
    halved = loaded(NetworkSettings(backbone="resnet18", weights=weights, map_pooling=2), tmp_path)
    torch.testing.assert_close(halved(backbones.of(network).normalise(images)), maps.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048)])
def test_every_resnet_has_the_width_that_heads_are_made_for(name, width):
    with torch.device("meta"):
        network = backbones.of(NetworkSettings(backbone=name, weights="random"))
        assert network.blocks(0)(torch.empty(1, 3, 448, 448)).shape == (1, width, 14, 14)
    assert network.width == width


def test_random_weights_follow_the_seed_and_others_do_not(weights, tmp_path):
    def first(weights, seed):
        return loaded(NetworkSettings(backbone="resnet18", weights=weights), tmp_path, seed)[0][0].weight

    assert torch.equal(first("random", 1), first("random", 1))
    assert not torch.equal(first("random", 1), first("random", 2))
    assert torch.equal(first(weights, 1), first(weights, 2))


def test_weights_without_a_classifier_and_without_counts_of_batches_are_whole(model, tmp_path):
    state = {name: t for name, t in model.state_dict().items() if not name.startswith("fc.") and t.dim()}
    torch.save(state, tmp_path / "headless.pth")
    network = NetworkSettings(backbone="resnet18", weights=str(tmp_path / "headless.pth"))
    assert torch.equal(loaded(network, tmp_path)[4][1].bn2.running_var, model.layer4[1].bn2.running_var)


def lightning(state):
    own = {f"model.backbone.{name}": tensor for name, tensor in state.items()}
    return {"epoch": 3, "hyper_parameters": {"lr": 0.1}, "state_dict": {**own, "loss.weight": torch.ones(3)}}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 90},
        lambda state: {"model": state, "optimizer": {}},
        lambda state: {f"encoder.{name}": tensor for name, tensor in state.items()},
        lightning,
        None,
    ],
    ids=["data parallel", "model", "prefix", "lightning", "safetensors"],
)
def test_checkpoints_as_people_have_them_are_the_same_weights(wrapped, model, weights, tmp_path):
    path = tmp_path / "checkpoint.file"
    if wrapped is None:
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        torch.save(wrapped(model.state_dict()), path)
    one, other = (loaded(NetworkSettings(backbone="resnet18", weights=str(file)), tmp_path) for file in (weights, path))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


class Executed:
    """What would execute code when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("the file was executed",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            lambda state: {"state_dict": state, "callbacks": Executed()},
            r"it has objects .* besides tensors and plain values",
        ),
        (
            lambda state: {"epoch": 3, "net": state},
            r"no state dict is in it, alone or under .*; it has keys epoch, net",
        ),
        (lambda state: [1, 2], r"no state dict is in it, .*; it has list"),
        (
            lambda state: {f"{at}.{name}": tensor for at in ("student", "teacher") for name, tensor in state.items()},
            r"several models are in it, at 'student.' and 'teacher.'; keep one of them",
        ),
    ],
)
def test_a_checkpoint_without_one_clear_state_dict_is_refused_and_nothing_of_it_executed(
    content, said, model, world, tmp_path
):
    torch.save(content(model.state_dict()), tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"(?s)network.weights: .*odd.pth cannot be used .*{said}"):
        training(world, **{"network.weights": str(tmp_path / "odd.pth")}).prepare()


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("layer1.0.conv1.weight", None, "lacks layer1.0.conv1.weight"),
        ("module.conv1.weight", torch.zeros(1), "unknown module.conv1.weight"),
        ("conv1.weight", torch.zeros(1), "size mismatch for conv1.weight"),
    ],
)
def test_a_file_with_other_weights_is_refused_before_anything_starts(name, tensor, said, model, world, tmp_path):
    state = {**model.state_dict(), name: tensor}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"(?s)network.weights: .*odd.pth cannot be used .*{said}"):
        training(world, **{"network.weights": str(tmp_path / "odd.pth")}).prepare()


def test_a_file_that_is_no_state_dict_is_refused(world, tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(WeightsError, match=r"text cannot be used"):
        training(world, **{"network.weights": str(tmp_path / "text")}).prepare()


@pytest.fixture
def server(weights, monkeypatch, tmp_path):
    """What is published is a file of this machine, whose name says its checksum; returns the addresses asked for."""
    content = Path(weights).read_bytes()
    asked = []

    def answered(url, timeout):
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answered)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    digest = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setattr(resnet.ResNet, "_url", lambda self: f"https://example.org/resnet18-{digest}.pth")
    return asked


def test_published_weights_are_downloaded_once_into_the_store(server, world, model, tmp_path):
    network = NetworkSettings(backbone="resnet18")
    one, other = loaded(network, tmp_path), loaded(network, tmp_path, seed=2)
    assert len(server) == 1
    assert torch.equal(one[4][1].bn2.running_var, model.layer4[1].bn2.running_var)
    assert torch.equal(one[0][0].weight, other[0][0].weight)


def test_a_download_that_is_not_what_its_name_says_is_refused(server, world, monkeypatch, tmp_path):
    monkeypatch.setattr(resnet.ResNet, "_url", lambda self: "https://example.org/resnet18-00000000.pth")
    with pytest.raises(WeightsError, match=r"SHA-256 of https://example.org/resnet18-00000000.pth"):
        features.initial_weights(NetworkSettings(backbone="resnet18"), tmp_path)


def test_without_a_network_the_error_says_which_file_to_get_and_how_to_give_it(world, monkeypatch, tmp_path):
    def offline(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.url
    with pytest.raises(WeightsError, match=rf"no route to host.*download {published}.*network.weights=FILE"):
        training(world, **{"network.backbone": "resnet50", "network.weights": "imagenet_v2"}).prepare()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"network.weights": "imagenet_v3"}, "network.weights: 'imagenet_v3' is not allowed; allowed is imagenet |"),
        ({"network.weights": "imagenet_v2"}, "network.weights: 'imagenet_v2' .* for resnet18"),
        ({"network.map_pooling": 3}, "network.map_pooling: 3 is not allowed; allowed is 1 | 2"),
    ],
)
def test_wrong_settings_are_refused(values, said):
    with pytest.raises(SettingError, match=said):
        resolve({**SMALL, **values})


def test_a_map_too_small_to_be_pooled_is_refused_before_anything_starts(world):
    with pytest.raises(SettingError, match=r"network.map_pooling: 2 .* 1: the map of resnet18 is 1 x 1 .* 32 x 32"):
        training(world, **{"network.map_pooling": 2, "data.image_size": 32}).prepare()


def key(**values):
    return resolve({**SMALL, **values}).keys()[0]


def test_torchvisions_version_is_in_the_key_of_a_resnet_and_of_no_other_backbone(monkeypatch):
    def keys():
        return key(), key(**{"network.backbone": "digit_conv"})

    before = keys()
    monkeypatch.setattr("methods.networks.settings.version", lambda name: f"{name} of another day")
    after = keys()
    assert before[0] != after[0] and before[1] == after[1]


def test_a_backbones_code_is_in_its_own_keys_alone(monkeypatch):
    def keys():
        return key(), key(**{"network.backbone": "digit_conv"})

    before = keys()
    real = features.fingerprint
    for module, changed in (("methods.networks.resnet", (True, False)), ("methods.networks.digit_conv", (False, True))):
        monkeypatch.setattr(
            "methods.training.config.fingerprint", lambda name, module=module: real(name) * (1 + (name == module))
        )
        assert tuple(a != b for a, b in zip(before, keys(), strict=True)) == changed


def test_a_weights_file_acts_by_its_content_wherever_it_is(weights, tmp_path):
    moved, other = tmp_path / "moved.pth", tmp_path / "other.pth"
    moved.write_bytes(Path(weights).read_bytes())
    other.write_bytes(b"other")
    one, same, different = (key(**{"network.weights": str(path)}) for path in (weights, moved, other))
    assert one == same != different
    assert one != key()


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_statistics_of_frozen_blocks_stay_and_those_of_trained_ones_move_where_they_are_the_batchs(batch_norm, world):
    trial = training(world, **{"network.batch_norm": batch_norm, "network.frozen_blocks": 4})
    start = trial.initial_state()
    trunk = {name: tensor.clone() for name, tensor in trial.feature_cache.trunk.state_dict().items()}
    state, _ = trial.advance(start, 1)
    name = "module/backbone/4.1.bn2.running_mean"
    assert torch.equal(state[name], start[name]) == (batch_norm == "frozen")
    assert not torch.equal(state["module/backbone/4.1.conv2.weight"], start["module/backbone/4.1.conv2.weight"])
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in trial.feature_cache.trunk.state_dict().items())


def test_without_labels_statistics_are_those_of_the_weights_not_of_the_training_images(model, weights, world):
    trial = training(world, **{"network.weights": weights})
    assert torch.equal(trial.feature_cache.trunk[0][1].running_mean, model.bn1.running_mean)


@pytest.mark.parametrize("frozen", [0, 3, 5])
@pytest.mark.parametrize("linear", ["off", "first_epochs"])
def test_features_made_batch_by_batch_are_those_that_are_kept(frozen, linear, world, monkeypatch):
    values = {"network.frozen_blocks": frozen, "train.linear_init": linear, "data.train_fraction": 0.8}
    kept = list(training(world, **values).epochs())
    features.prepare.cache_clear()
    monkeypatch.setattr(features, "KEPT_BYTES", 0)
    streaming = training(world, **values)
    streamed = list(streaming.epochs())
    assert not streaming.feature_cache._kept and not streaming.feature_cache._tail_kept
    for (state, metrics), (other, others) in zip(kept, streamed, strict=True):
        assert metrics == pytest.approx(others, rel=1e-4)
        for name in state:
            torch.testing.assert_close(other[name], state[name], rtol=1e-4, atol=1e-5)
    one, other = training(world, **values), streaming
    features.prepare.cache_clear()
    monkeypatch.setattr(features, "KEPT_BYTES", 2**40)
    state = kept[-1][0]
    assert all(torch.equal(a, b) for a, b in zip(one.scores(state, 2).values(), other.scores(state, 2).values()))


def test_of_a_split_what_would_not_fit_is_not_kept(world, monkeypatch):
    trial = training(world, **{"network.frozen_blocks": 3})
    ready = trial.feature_cache
    with torch.no_grad():
        size = ready.trunk_features("test").nbytes
    assert size == 4 * features.feature_bytes(trial.config.network, 3, SIDE)
    for limit, keeps in ((size, True), (size - 1, False)):
        monkeypatch.setattr(features, "KEPT_BYTES", limit)
        assert ready._kept_without_tail("test") == keeps


@pytest.mark.parametrize(("side", "chunk"), [(48, 256), (64, 256), (224, 64), (448, 16), (512, 16)])
def test_chunks_are_smaller_where_images_are_larger(side, chunk, world):
    assert training(world, **{"data.image_size": side}).feature_cache.chunk == chunk


class Shelf:
    """Images that remember which rows were read, and by which thread."""

    def __init__(self):
        self.read = []

    def __getitem__(self, rows):
        self.read.append(rows.tolist())
        return rows[:, None].to(torch.uint8)


def test_steps_are_read_ahead_and_rows_asked_for_twice_only_once():
    steps, shelf, waits = torch.arange(6).split(2), Shelf(), []
    images = Prefetcher(shelf, steps, torch.device("cpu"), waits.append)
    for step in steps:
        assert images(step).tolist() == step[:, None].tolist()
        assert images(step.clone()).tolist() == step[:, None].tolist()
    assert shelf.read == [[0, 1], [2, 3], [4, 5]]
    assert len(waits) == 3 and min(waits) >= 0
    assert images(torch.tensor([5, 0])).tolist() == [[5], [0]], "rows that are no step"


def test_what_goes_wrong_while_reading_ahead_is_said_when_it_is_asked_for():
    class Damaged(Shelf):
        def __getitem__(self, rows):
            if 2 in rows:
                raise ValueError("image 2 is damaged")
            return super().__getitem__(rows)

    steps = torch.arange(4).split(2)
    images = Prefetcher(Damaged(), steps, torch.device("cpu"), lambda seconds: None)
    images(steps[0])
    with pytest.raises(ValueError, match="image 2 is damaged"):
        images(steps[1])


def test_the_share_of_time_that_computing_waits_for_images_is_known(world, monkeypatch):
    monkeypatch.setattr(features, "KEPT_BYTES", 0)
    trial = training(world)
    trial.advance(trial.initial_state(), 1)
    assert trial.feature_cache.waited > 0


def test_weights_of_a_trial_are_all_that_inference_needs(model, weights, world):
    trial = training(world, **{"network.weights": weights})
    named = trial.weights(trial.initial_state())
    shapes = {tuple(tensor.shape) for name, tensor in named.items() if name.startswith(("trunk/", "backbone/"))}
    assert shapes == {tuple(t.shape) for name, t in model.state_dict().items() if not name.startswith("fc.")}
    assert np.isfinite([tensor.double().sum().item() for tensor in named.values()]).all()


@pytest.mark.parametrize("limit", [0, 2**40])
def test_without_validation_images_there_are_no_scores_of_them(limit, world, monkeypatch):
    monkeypatch.setattr(features, "KEPT_BYTES", limit)
    trial = training(world, **{"data.val_fraction": 0.0})
    scores = trial.scores(trial.initial_state(), 1)
    assert scores["val"].shape == (0, 4) and len(scores["test"]) > 0
