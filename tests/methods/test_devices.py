"""Where a trial computes: its results are the device's, its state is on the CPU, and no tensor is left behind."""

import functools
import os

import pytest
import torch
from torch import nn

from methods.contract.settings import SettingError
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.networks.settings import CLIP
from methods.training import artifacts, clip_features, features, platforms
from methods.training.config import resolve
from methods.training.fit import Training
from methods.training.platforms import Compute, identity
from methods.training.registry import methods
from tests.methods import elsewhere, miniatures, tiny

pytestmark = pytest.mark.slow

# Settings beyond the tiny world's, under which more of a method acts.
MORE = {
    "large_loss": {"scheme": "correct_permanent"},
    "sst": {"inter_score": "all_positives"},
    "prompt_learning": {"decoupling": "off", "score": "softmax"},
    "hst": {"cooccurrence": "statistical"},
    "dsrb": {"images_without_unknown": "class_zero"},
    "sarb": {"blended_classes": "all", "feature_width": 8},
    "curriculum": {"strategy": "class_proportion"},
    "mixup": {"space": "feature_maps", "share": "beta"},
    "role": {"train.linear_init": "separate"},
    "assume_negative": {"train.augmentation": "shift"},
    "ssgrl": {"decoupling": "semantic_attention"},
}
CASES = [(method, MORE.get(method, {})) for method in methods()]
CASES += [(method, {}) for method in ("sst", "sarb", "prompt_learning")]


class There(Training):
    """Training on the device of `elsewhere`."""

    @functools.cached_property
    def feature_cache(self):
        network, compute = self.config.network, Compute(elsewhere.NAME)
        if network.backbone in CLIP:
            return clip_features.ClipFeatureCache(self.config.data, network, self._cache_folder, compute)
        return features.FeatureCache(self.config.data, network, self.config.seed, self._cache_folder, compute)


def config(method, **values):
    # The fused Adam of torch knows the devices that it runs on by name.
    diagnostics = {f"diagnostics.{name}": True for name in DIAGNOSTICS}
    if method == "prompt_learning":
        diagnostics["diagnostics.pointing_game"] = values.get("decoupling") != "off"
    return resolve(tiny.tiny(method, **{"train.optimizer": "sgd", **diagnostics, **values}))


def everything(training):
    """What a trial leaves: its last state, all its metrics, its pictures and its weights."""
    *before, (state, metrics) = training.epochs()
    history = [metrics for _, metrics in before] + [metrics]
    since = torch.zeros(training.task.observed.shape, dtype=torch.int16)
    epoch = training.config.train.epochs
    pictures = [artifacts.cooccurrence(training, state, epoch), artifacts.similar_images(training, state, epoch)]
    if training.config.diagnostics.pointing_game:
        pictures.append(artifacts.corrections(training, state, epoch, since))
    return state, history, pictures, training.weights(state)


def assert_same(one, other):
    """To the bit but for CLIP, whose attention torch computes in one piece on the devices that it knows."""
    for name in one.keys() | other.keys():
        torch.testing.assert_close(other[name], one[name], rtol=1e-2, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("method", "more"), CASES, ids=[f"{name}-{'-'.join(more)}" for name, more in CASES])
def test_on_another_device_every_method_does_what_it_does_on_the_cpu_and_leaves_nothing_there(method, more):
    shown = {f"diagnostics.{name}": 2 for name in ("cooccurrence", "similar_images", "pictures")}
    given = config(method, **more, **shown)
    here = tiny.new_training(given)
    state, history, files, weights = everything(here)
    with elsewhere.device():
        other_state, other_history, other_files, other_weights = everything(There(given, here._cache_folder))
    exact = given.network.backbone not in CLIP
    for one, other in [(state, other_state), (weights, other_weights)]:
        assert not tiny.different(one, other) if exact else not assert_same(one, other)
        assert not any(isinstance(tensor, elsewhere.There) for tensor in other.values())
    for one, other in zip(history, other_history, strict=True):
        assert other["train/loss"] == pytest.approx(one["train/loss"], rel=None if exact else 1e-4)
        assert not exact or not tiny.different_metrics(one, other)
    assert files == other_files if exact else len(files) == len(other_files)


@pytest.mark.parametrize("augmentation", ["none", "crops"])
def test_images_that_are_read_batch_by_batch_are_moved_there(augmentation, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_BYTES", 0)
    values = {
        "data.dataset": "coco2014",
        "data.root": str(miniatures.write("coco2014", tmp_path)),
        "data.image_size": 64,
    }
    resnet = {"network.backbone": "resnet18", "network.weights": "random", "network.frozen_blocks": 4}
    given = resolve(
        {"method": "assume_negative", "train.optimizer": "sgd", "train.epochs": 1}
        | {"train.batch_size": 5, "train.augmentation": augmentation, **values, **resnet}
    )
    here = tiny.new_training(given)
    ((_, metrics),) = here.epochs()
    with elsewhere.device():
        ((_, other),) = There(given, here._cache_folder).epochs()
    assert metrics == pytest.approx(other, rel=1e-3 if augmentation == "none" else 0.1)


def test_a_tensor_left_on_the_cpu_is_found():
    with elsewhere.device() as there:
        moved = torch.ones(3, device=there)
        assert (moved * torch.tensor(2.0) + 1).cpu().tolist() == [3, 3, 3]
        assert moved[torch.tensor([0])].device.type == there.type
        for left in (
            lambda: moved + torch.ones(3),
            lambda: torch.ones(3)[moved.long()],
            lambda: torch.cat([moved, torch.ones(1)]),
        ):
            with pytest.raises(AssertionError, match="of this device and of the CPU"):
                left()


def trained(**values):
    given = resolve(tiny.tiny("assume_negative", **{"data.labels": "full", "train.epochs": 2, **values}))
    return given, tiny.run(given)


@pytest.mark.parametrize("values", [{"train.precision": "bf16"}, {"train.channels_last": True}])
def test_how_it_is_computed_is_in_the_key_and_next_to_nothing_in_the_result(values):
    (plain, expected), (other, found) = trained(), trained(**values)
    assert plain.keys()[0] != other.keys()[0] and plain.identity() != other.identity()
    for one, two in zip(expected.metrics, found.metrics, strict=True):
        assert two["train/loss"] == pytest.approx(one["train/loss"], rel=2e-2)
    assert all(tensor.dtype != torch.bfloat16 for tensor in found.states[-1].values())


def test_a_compiled_backbone_trains_as_one_that_is_not(monkeypatch):
    # Without the code generator, which takes minutes and a compiler: what is compiled is the question.
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    (plain, expected), (other, found) = trained(), trained(**{"train.compile": True})
    assert plain.keys()[0] != other.keys()[0]
    assert_same(expected.states[-1], found.states[-1])


def test_auto_is_what_torch_sees_and_is_resolved_for_whoever_runs_the_trial(monkeypatch):
    assert config("epr").train.device == config("epr", **{"train.device": "cpu"}).train.device == "cpu"
    with pytest.raises(
        SettingError, match=r"train.device: 'cuda' is not allowed; allowed is auto \| cpu: torch sees no"
    ):
        config("epr", **{"train.device": "cuda"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert config("epr").train.device == "cuda"


def test_a_gpu_and_its_libraries_are_in_the_key(monkeypatch):
    on_cpu = config("epr").keys()[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def keys(name, cudnn):
        identity.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
        return config("epr").keys()[0]

    try:
        assert len({on_cpu, keys("A100", 90000), keys("H100", 90000), keys("A100", 90100)}) == 4
    finally:
        identity.cache_clear()


def test_tf32_is_off_unless_asked_for_and_cublas_is_told_to_be_deterministic():
    def allowed():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = allowed()
    for precision, expected in (("fp32", (False, False)), ("tf32", (True, True)), ("bf16", (False, False))):
        with platforms.deterministic(1, precision), platforms.deterministic(1):
            assert allowed() == expected
        assert allowed() == before
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
