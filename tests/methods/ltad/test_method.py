"""LTAD as a whole: what is trained and what is not, what the category changes, and what each part adds to the score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.features.weights import state_sha256
from ltbench.blocks.networks.reconstruction import Reconstruction
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shard
from ltbench.blocks.vision_language import load_vision_language
from ltbench.contract.parameters import hyper_parameters, plain, resolve
from ltbench.contract.registry import presets
from ltbench.contract.subject import Subject
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, SpecError
from ltbench.method import NoProgress, Runtime, T
from methods.ltad.data import TrainingFeatures, training_features
from methods.ltad.first_phase import DEPENDS_ON, FirstPhase
from methods.ltad.method import LTAD
from methods.ltad.method_labelfree import LTADLabelFree
from methods.ltad.phases import Detector, DetectorTask, Synthesis, Texts
from methods.ltad.scores import highest_mean
from methods.ltad.semantics import LearntTexts
from methods.ltad.synthesis import Synthesiser
from tests.methods.ltad.conftest import Fit, FitLabelFree, nameless


def test_the_papers_reconstruction_module() -> None:
    assert sum(parameter.numel() for parameter in Reconstruction(384, (14, 14)).parameters()) == 7_774_848


def test_encoders_stay_as_they_are_and_names_are_learnt(fit: Fit) -> None:
    runtime = Runtime()
    method = fit(runtime)
    before = runtime.notes["foundation_model"]  # written when the model was loaded
    images, text = method._model.images, method._model.text
    assert state_sha256(cast(Any, images._network).vision.state_dict()) == before["image_weights_sha256"]
    bert = text._bert.state_dict()
    fresh = load_vision_language("tiny", (0, 1, 2), runtime=Runtime()).text
    assert all(torch.equal(bert[key], value) for key, value in fresh._bert.state_dict().items())
    words = [text.words("a broken object")]
    assert torch.equal(text.encode(words), fresh.encode(words)), "the final projection included"
    start = method._model.text.words("object object")
    assert all(not torch.equal(name, start) for name in method.names_)
    assert not torch.equal(method.names_[0], method.names_[1])
    fixed = fit(learn_names=False)
    assert all(torch.equal(name, start) for name in fixed.names_)


def test_phase_1_trains_names_decoder_and_posterior_and_phase_2_none_of_them(
    subject: Subject, fit: Fit, tmp_path: Path
) -> None:
    """What phase 1 left in the store is what it started from, moved; and what phase 2 used, unmoved."""
    used: list[Synthesis] = []
    trained = FirstPhase.trained

    def noting(self: FirstPhase, fingerprints: Sequence[str] | None, runtime: Runtime) -> Synthesis:
        before = self.untrained(runtime).state_dict()
        used.append(trained(self, fingerprints, runtime))
        after = used[0].state_dict()
        assert after.keys() == before.keys()
        for part in ("names", "synthesiser.decoder", "synthesiser.mean", "synthesiser.log_variance"):
            own = [name for name in after if name.startswith(part)]
            assert own, part
            assert any(not torch.equal(after[name], before[name]) for name in own), part
        kept.update({name: tensor.clone() for name, tensor in after.items()})
        return used[0]

    kept: dict[str, torch.Tensor] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FirstPhase, "trained", noting)
        fit(Runtime(feature_store=DiskFeatureStore(tmp_path)))
    after = used[0].state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in kept.items())


def test_rebuilding_what_was_shown_costs_and_scores_nothing() -> None:
    class Copy(Reconstruction):
        def forward(self, tokens: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:
            return tokens

    detector = Detector(Copy(3, (2, 2), width=8, layers=1, heads=2, ffn_width=8, mask_side=1), None)
    patches = torch.rand(2, 4, 3)
    assert not detector.errors(patches, mean=False).any()
    features = TrainingFeatures(
        patches.numpy(), np.ones((2, 2), np.float32), (), (3,), (2, 2), np.zeros(2, int), (1.0, 1.0)
    )
    texts = Texts(*(torch.zeros(1, 2) for _ in range(3)))
    for scale, is_free in ((0.0, True), (20.0, False)):
        task = DetectorTask(detector, features, texts, None, [1.0], scale, mean=False, temperature=1.0)
        assert (task.loss(Shard(np.arange(2), Draws(0), Draws(1))).item() == 0) == is_free


class TestClipping:
    def test_a_module_is_trained_as_if_alone(self, fit: Fit) -> None:
        both, alone = (fit(**values).detector_ for values in ({}, {"semantic": False}))
        one, other = (cast(torch.nn.Module, each.reconstruction).state_dict() for each in (both, alone))
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_jointly_each_sets_the_pace_of_the_other(self, fit: Fit) -> None:
        joint, alone = (fit(**values).detector_ for values in ({"clip_rule": "joint"}, {"semantic": False}))
        one, other = (cast(torch.nn.Module, each.reconstruction).state_dict() for each in (joint, alone))
        assert any(not torch.equal(one[name], other[name]) for name in one)


class TestPrivileges:
    @pytest.mark.parametrize(
        ("values", "test", "training"),
        [
            ({}, True, False),
            ({"reconstruct": False}, True, False),
            ({"semantic": False}, False, True),
            ({"semantic": False, "conditioned": False}, False, False),
            ({"semantic": False, "p_real": 1.0}, False, False),
            ({"semantic": False, "p_real_rule": "by_count", "conditioned": False}, False, True),
        ],
    )
    def test_they_are_what_a_run_asks_for(
        self, subject: Subject, values: dict[str, Any], test: bool, training: bool
    ) -> None:
        method = LTAD(**(subject.parameters | values))
        assert (method.run_info.uses_categories, method.run_info.uses_training_categories) == (test, training)
        train = subject.train if test or training else nameless(subject.train)
        mixed = subject.mixed if test else nameless(subject.mixed)
        assert len(method.fit(train, Runtime()).predict(mixed).scores) == 4

    def test_a_label_free_run_is_never_told_those_of_test_images(self, subject: Subject) -> None:
        for semantic in (True, False):
            info = LTADLabelFree(**(subject.parameters | {"semantic": semantic})).run_info
            assert (info.uses_categories, info.uses_training_categories) == (False, True)


def test_without_both_modules_there_is_nothing_to_score_with(fit: Fit) -> None:
    with pytest.raises(SpecError, match="Expected a module to score with"):
        fit(semantic=False, reconstruct=False)


def test_without_the_semantic_module_only_errors_count(subject: Subject, fit: Fit) -> None:
    alone = fit(semantic=False).predict(nameless(subject.defective))
    unweighted = fit(semantic_weight=0.0).predict(subject.defective)
    np.testing.assert_array_equal(unweighted.maps, alone.maps)
    np.testing.assert_array_equal(unweighted.scores, alone.scores)


def test_without_the_reconstruction_module_scores_are_probabilities(subject: Subject, fit: Fit) -> None:
    method = fit(reconstruct=False, semantic_weight=1.0)
    assert method.detector_.reconstruction is None
    maps = method.predict(subject.mixed).maps
    assert ((maps > 0) & (maps < 1)).all()


def test_a_score_is_the_sum_of_its_parts(subject: Subject, fit: Fit) -> None:
    one, two = (fit(semantic_weight=weight).predict(subject.mixed).maps for weight in (1.0, 2.0))
    errors = fit(semantic_weight=0.0).predict(subject.mixed).maps
    np.testing.assert_allclose(two - errors, 2 * (one - errors), rtol=1e-3, atol=1e-4)


class TestCategories:
    def test_they_change_the_semantic_part_alone(self, subject: Subject, fit: Fit) -> None:
        images = subject.defective.images
        names = ["grid", "stripes"]
        method = fit(semantic_weight=1.0)
        one, other = (method.predict(ArrayImages(images, [name] * len(images))).maps for name in names)
        assert not np.array_equal(one, other)
        plain = fit(semantic=False)
        one, other = (plain.predict(ArrayImages(images, [name] * len(images))).maps for name in names)
        np.testing.assert_array_equal(one, other)

    def test_shuffled_names_are_those_of_other_categories(self, subject: Subject, fit: Fit) -> None:
        """With two categories each goes by the name of the other."""
        images = subject.defective
        swapped = ArrayImages(images.images, ["grid" if name == "stripes" else "stripes" for name in images.categories])
        shuffled = fit(shuffle_names=True, semantic_weight=1.0)
        plain = fit(semantic_weight=1.0)
        np.testing.assert_array_equal(shuffled.predict(images).maps, plain.predict(swapped).maps)
        assert not np.array_equal(shuffled.predict(images).maps, plain.predict(images).maps)

    def test_no_category_keeps_its_own_name_when_shuffled(self, fit: Fit) -> None:
        method = fit(Runtime(), shuffle_names=True)
        method.categories_ = tuple("abcdefgh")
        names = [method._named(index) for index in range(8)]
        assert sorted(names) == list(range(8))
        assert all(name != index for index, name in enumerate(names))

    def test_one_that_was_not_trained_on(self, subject: Subject, fit: Fit) -> None:
        with pytest.raises(SpecError, match="'cable'"):
            fit().predict(ArrayImages(subject.good.images, ["cable"] * 4))

    def test_they_are_asked_for_only_where_they_count(self, subject: Subject, fit: Fit) -> None:
        assert fit(semantic=False).predict(nameless(subject.good)).maps.shape == (4, 64, 64)
        with pytest.raises(ContractError):
            fit().predict(nameless(subject.good))

    def test_images_of_another_size(self, fit: Fit) -> None:
        with pytest.raises(ContractError, match="8, 8"):
            fit().predict(ArrayImages(np.zeros((1, 32, 32, 3), np.uint8), ["grid"]))


class TestLabelFree:
    def test_it_needs_no_categories_of_test_images(self, subject: Subject, fit_labelfree: FitLabelFree) -> None:
        assert len(fit_labelfree().predict(nameless(subject.defective)).scores) == 4

    @pytest.mark.parametrize("match", ["names", "products", "images"])
    def test_it_scores_as_if_told_what_it_guesses(
        self, subject: Subject, fit: Fit, fit_labelfree: FitLabelFree, match: str
    ) -> None:
        guessing = fit_labelfree(match=match)
        told = fit()
        found = guessing.predict(nameless(subject.mixed)).maps
        each = [told.predict(ArrayImages(subject.mixed.images, [name] * 4)).maps for name in told.categories_]
        equal = np.array([[np.array_equal(found[i], maps[i]) for i in range(4)] for maps in each])
        assert (equal.sum(axis=0) == 1).all(), "every image is scored as exactly one category"

    def test_the_nearest_mean_training_image(self, fit_labelfree: FitLabelFree, subject: Subject) -> None:
        method = fit_labelfree(match="images")
        codes = np.stack([features.code for features in method._model.extract(subject.train, Runtime())])
        named = np.array(subject.train.categories)
        means = np.stack([codes[named == name].mean(axis=0) for name in method.categories_]) / method.scales_[1]
        np.testing.assert_allclose(method.mean_codes_.numpy(), means, rtol=1e-4, atol=1e-6)
        assign = method.assigner(nameless(subject.good))
        assert [assign(0, mean) for mean in method.mean_codes_] == [0, 1]


class TestSynthesis:
    def task(self, p_real: list[float], calls: list[int]) -> DetectorTask:
        """Return a task on ones, whose synthetic features are zeros."""

        class Zeros(Synthesiser):
            def __init__(self) -> None:
                super().__init__(2, 2, torch.nn.Identity())

            def forward(
                self, codes: torch.Tensor, texts: torch.Tensor | None, draws: Draws
            ) -> tuple[list[torch.Tensor], torch.Tensor]:
                calls.append(len(codes))
                return [torch.zeros(len(codes), 3, 2, 2)], torch.zeros(len(codes))

        categories = np.arange(400) % len(p_real)
        ones = np.ones((400, 4, 3), np.float32)
        features = TrainingFeatures(ones, np.ones((400, 2), np.float32), (), (3,), (2, 2), categories, (1.0, 1.0))
        texts = Texts(*(torch.zeros(len(p_real), 2) for _ in range(3)))
        return DetectorTask(Detector(None, None), features, texts, Zeros(), p_real, 20.0, False, 1.0)

    def real(self, p_real: list[float], calls: list[int]) -> torch.Tensor:
        shard = Shard(np.arange(400), Draws(0), Draws(1))
        patches = self.task(p_real, calls).patches(shard)
        assert set(patches.flatten().tolist()) <= {0.0, 1.0}
        assert torch.equal(patches.amin(dim=(1, 2)), patches.amax(dim=(1, 2))), "an image is one or the other"
        return patches[:, 0, 0]

    def test_all_real(self) -> None:
        calls: list[int] = []
        assert self.real([1.0], calls).all()
        assert not calls, "the decoder is not run"

    def test_none_real(self) -> None:
        calls: list[int] = []
        assert not self.real([0.0], calls).any()
        assert calls == [400]

    def test_a_share(self) -> None:
        rate = float(self.real([0.5], []).mean())
        assert rate == pytest.approx(0.5, abs=4 * (0.25 / 400) ** 0.5)

    def test_a_share_a_category(self) -> None:
        found = self.real([1.0, 0.0], [])
        assert found[::2].all()
        assert not found[1::2].any()


class Stops(NoProgress):
    """Raises in the middle of a phase."""

    def __init__(self, phase: str, step: int) -> None:
        self.phase, self.left = phase, step
        self.seen: list[str] = []

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        self.seen.append(phase)
        for item in items:
            if phase == self.phase:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            yield item


@pytest.mark.parametrize(("phase", "step"), [("synthesis", 3), ("detection", 5)])
def test_an_interrupted_training_ends_with_the_same_numbers(
    subject: Subject, fit: Fit, tmp_path: Path, phase: str, step: int
) -> None:
    values = {"synthesis_epochs": 3}
    with pytest.raises(KeyboardInterrupt):
        fit(Runtime(checkpoints=tmp_path, progress=Stops(phase, step)), **values)
    assert (tmp_path / f"{phase}.safetensors").exists()
    resumed = Runtime(checkpoints=tmp_path)
    again = fit(resumed, **values).predict(subject.mixed)
    whole = Runtime()
    np.testing.assert_array_equal(again.maps, fit(whole, **values).predict(subject.mixed).maps)
    assert resumed.notes == whole.notes


class TestSharing:
    def test_phase_1_is_trained_once_for_runs_that_differ_in_phase_2(
        self, subject: Subject, fit: Fit, tmp_path: Path
    ) -> None:
        runs: list[dict[str, Any]] = [{}, {"epochs": 2, "pooling": "mean"}, {"kl_weight": 0.5}, {"semantic": False}]
        seen = []
        for values in runs:
            progress = Stops("", 0)
            runtime = Runtime(feature_store=DiskFeatureStore(tmp_path), progress=progress)
            found = fit(runtime, **values).predict(subject.mixed)
            seen.append("synthesis" in progress.seen)
            alone = Runtime()
            np.testing.assert_array_equal(found.maps, fit(alone, **values).predict(subject.mixed).maps)
            assert runtime.notes["losses"]["detection"] == alone.notes["losses"]["detection"]
            assert runtime.notes["losses"]["synthesis"] == alone.notes["losses"]["synthesis"]
        assert seen == [True, False, True, False]

    def test_every_setting_that_phase_1_reads_names_it(self, subject: Subject, fit: Fit, tmp_path: Path) -> None:
        """Every hyper-parameter but those of phase 2 and of scoring must be part of the key."""
        of_the_model = {"model", "layers", "pixels"}
        later = {
            *("shuffle_names", "p_real", "p_real_rule", "reconstruct", "width", "depth", "heads", "ffn_width"),
            *("dropout", "mask_side", "jitter_scale", "reduction", "error", "semantic", "projection", "pooling"),
            *("temperature", "normal_prompts", "abnormal_prompts", "semantic_weight", "balance", "epochs", "lr_step"),
            *("clip_norm", "clip_rule", "learn_texts", "image_score"),
        }
        every = {parameter.name for parameter in hyper_parameters(LTAD)}
        assert every == of_the_model | later | set(DEPENDS_ON)

    def test_a_sweep_knows_what_is_shared(self, subject: Subject) -> None:
        methods = (LTAD, LTADLabelFree)
        assert {method(**subject.parameters).shared_training for method in methods} == {
            ("model", "layers", "pixels", *DEPENDS_ON)
        }
        assert LTAD(**(subject.parameters | {"p_real": 1.0, "semantic": False})).shared_training == ()

    def test_nothing_is_trained_where_nothing_is_used(self, fit: Fit) -> None:
        progress = Stops("", 0)
        fit(Runtime(progress=progress), p_real=1.0, semantic=False)
        assert "synthesis" not in progress.seen
        assert "detection" in progress.seen


def test_balance_gives_both_parts_one_deviation(subject: Subject, fit: Fit) -> None:
    runtime = Runtime()
    method = fit(runtime, balance="train", semantic_weight=1.0)
    factor = runtime.notes["semantic_factor"]
    categories = np.array([method.categories_.index(name) for name in subject.train.categories])
    features = training_features(
        method._model, subject.train, method.grid_, categories, with_maps=False, scaled=True, runtime=Runtime()
    )
    plain = fit(Runtime(), semantic_weight=factor).predict(subject.mixed)
    np.testing.assert_allclose(method.predict(subject.mixed).maps, plain.maps, rtol=1e-5)
    with torch.inference_mode():
        parts = [
            torch.cat(method._parts(int(category), [torch.tensor(own)[None]]))
            for category, own in zip(categories, features.patches, strict=True)
        ]
    errors, posteriors = torch.stack(parts).double().numpy().swapaxes(0, 1)
    assert factor * posteriors.std() == pytest.approx(errors.std(), rel=1e-5)


def test_the_learning_curve_sees_a_method_that_predicts(subject: Subject, fit: Fit) -> None:
    curve = []

    def after_epoch(epoch: int, method: object) -> None:
        assert isinstance(method, LTAD)
        curve.append((epoch, method.predict(subject.mixed).maps))

    watched = Runtime(after_epoch=after_epoch)
    final = fit(watched, balance="train").predict(subject.mixed)
    assert [epoch for epoch, _ in curve] == [1, 2, 3]
    np.testing.assert_array_equal(curve[-1][1], final.maps)
    np.testing.assert_array_equal(fit(balance="train").predict(subject.mixed).maps, final.maps)


def test_a_mirror_makes_maps_not_tokens(fit: Fit) -> None:
    with pytest.raises(SpecError, match="decoder_output=layers"):
        fit(decoder="mirror", decoder_output="tokens")


class TestImageScore:
    def test_a_constant(self) -> None:
        assert highest_mean(np.full((224, 224), 0.25, np.float32)) == 0.25

    def test_a_spike(self) -> None:
        image = np.zeros((224, 224), np.float32)
        image[100, 100] = 256.0
        assert highest_mean(image) == 1.0


class TestLearntTexts:
    """Row 8.2: the vectors of "normal" and "abnormal" of each category are parameters of phase 2."""

    def test_they_are_learnt_for_each_category_and_no_prompt_is_read(self, fit: Fit) -> None:
        method = fit(reconstruct=False, learn_texts=True)
        learnt = cast(Any, method.detector_).learnt
        fresh = LearntTexts(len(method.categories_), method._model.code_dim, method.seed_)
        assert len(learnt.vectors) == len(method.categories_)
        for now, start in zip(learnt.vectors, fresh.vectors, strict=True):
            assert now.shape == (2, method._model.code_dim)
            assert not torch.equal(now[0], start[0])
            assert not torch.equal(now[1], start[1])

    def test_prompts_change_nothing(self, subject: Subject, fit: Fit) -> None:
        first, second = (
            fit(reconstruct=False, learn_texts=True, abnormal_prompts=(prompt,)).predict(subject.good).maps
            for prompt in ("a broken", "a damaged")
        )
        assert np.array_equal(first, second)

    def test_alone_on_real_features_they_need_no_first_phase(self) -> None:
        assert not LTAD(reconstruct=False, learn_texts=True, p_real=1.0).needs_first_phase
        assert LTAD(reconstruct=False, p_real=1.0).needs_first_phase

    def test_they_are_saved(self, subject: Subject, fit: Fit, tmp_path: Path) -> None:
        method = fit(reconstruct=False, learn_texts=True)
        method.save(tmp_path)
        again = LTAD.load(tmp_path).predict(subject.good)
        assert np.array_equal(again.maps, method.predict(subject.good).maps)


def test_the_image_score_is_a_choice(subject: Subject, fit: Fit) -> None:
    found = fit(image_score="max").predict(subject.good)
    assert np.array_equal(found.scores, found.maps.max(axis=(1, 2)))
    usual = fit().predict(subject.good)
    assert np.array_equal(usual.maps, found.maps)
    assert (usual.scores < found.scores).all()


class TestPresets:
    def test_lambda_by_dataset(self) -> None:
        known = presets(LTAD)
        weights = {name: known[f"paper_{name}"].parameters["semantic_weight"] for name in ("mvtec", "visa", "dagm")}
        assert weights == {"mvtec": 500, "visa": 400, "dagm": 300}

    def test_every_row_of_the_papers_tables_has_one(self) -> None:
        rows = {"6": range(2, 9), "7": range(1, 5), "8": range(1, 4), "length": range(1, 9)}
        wanted = {f"ablation_{table}_{row}" for table, numbers in rows.items() for row in numbers}
        openings = [("a", "a_normal", "a_good", "a_flawless"), ("a_broken", "a_damaged", "an_abnormal", "a_defective")]
        wanted |= {f"ablation_9_{normal}_{abnormal}" for normal in openings[0] for abnormal in openings[1]}
        assert wanted <= set(presets(LTAD))

    def test_the_papers_settings_take_the_mirror_decoder(self) -> None:
        for name, preset in presets(LTAD).items():
            wanted = "light" if name in ("offline", "check") else "mirror"
            assert resolve(LTAD, preset.parameters)["decoder"] == wanted, name

    def test_the_lengths_of_figure_6_have_no_semantic_module(self) -> None:
        lengths = {name: p.parameters for name, p in presets(LTAD).items() if name.startswith("ablation_length_")}
        assert [p["name_length"] for p in lengths.values()] == list(range(1, 9))
        assert all(p["semantic"] is False for p in lengths.values())

    def test_no_two_are_the_same_run_but_those_that_two_tables_print(self) -> None:
        alike: dict[str, set[str]] = {}
        for name, preset in presets(LTAD).items():
            alike.setdefault(repr(plain(resolve(LTAD, preset.parameters))), set()).add(name)
        found = [names for names in alike.values() if len(names) > 1]
        assert sorted(map(sorted, found)) == [
            ["ablation_6_8", "ablation_length_2", "ablation_no_sad"],
            ["ablation_7_4", "ablation_8_3", "ablation_9_a_a_broken"],
        ]
