"""Names and prompts: where they start, who gets gradients, and which names an optimiser touches."""

from __future__ import annotations

import pytest
import torch

from ltbench.blocks.vision_language import TextEncoder, load_vision_language
from ltbench.method import Runtime
from methods.ltad.names import PseudoNames, spoken, starting_names, text_vectors

CATEGORIES = ("bottle", "metal_nut", "screw")


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    return load_vision_language("tiny", (0, 1), runtime=Runtime()).text


def test_object_object(text: TextEncoder) -> None:
    """The paper's start: 2 words of every category, the same for all."""
    names = starting_names(CATEGORIES, text, "object", 2)
    assert sum(name.numel() for name in names) == len(CATEGORIES) * 2 * text.width
    for name in names:
        torch.testing.assert_close(name, text.words("object object"))
    vectors = text_vectors(text, names, ["a"])
    assert torch.equal(vectors[0], vectors[1])
    torch.testing.assert_close(vectors[:1], text.encode_texts(["a object object"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 3, 8])
def test_lengths(text: TextEncoder, length: int) -> None:
    for start in ("object", "dataset", "random"):
        shapes = {name.shape for name in starting_names(CATEGORIES, text, start, length)}
        assert shapes == {(length, text.width)}


def test_names_of_the_dataset(text: TextEncoder) -> None:
    assert spoken("metal_nut") == "metal nut"
    whole = starting_names(CATEGORIES, text, "dataset", None)
    assert [len(name) for name in whole] == [1, 2, 1]
    torch.testing.assert_close(whole[1], text.words("metal nut"))
    filled = starting_names(CATEGORIES, text, "dataset", 3)
    torch.testing.assert_close(filled[1], text.words("metal nut metal"))


def test_random_names_are_drawn_from_the_seed(text: TextEncoder) -> None:
    state = torch.get_rng_state()
    one, same, other = (torch.stack(starting_names(CATEGORIES, text, "random", 64, seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert float(one.std()) == pytest.approx(text.spread, rel=0.1)


def test_only_names_that_occur_are_touched(text: TextEncoder) -> None:
    """Weight decay and momentum included."""
    names = PseudoNames(starting_names(CATEGORIES, text, "object", 2))
    optimiser = torch.optim.AdamW(names.parameters(), lr=0.1, weight_decay=0.5)
    before = [name.clone() for name in names.vectors]
    for present in ([0, 2], [2]):
        loss = text_vectors(text, names(present), [""]).square().sum()
        gradients = torch.autograd.grad(loss, list(names.parameters()), allow_unused=True)
        assert [index for index, gradient in enumerate(gradients) if gradient is not None] == present
        for parameter, gradient in zip(names.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        if present == [0, 2]:
            after_first = names.vectors[0].clone()
    assert torch.equal(names.vectors[1], before[1])
    assert torch.equal(names.vectors[0], after_first)
    assert not torch.equal(names.vectors[0], before[0])
    assert not torch.equal(names.vectors[2], before[2])


def test_several_prompts_are_averaged(text: TextEncoder) -> None:
    names = starting_names(CATEGORIES, text, "dataset", None)
    both = text_vectors(text, names, ["a", "a broken"])
    each = [text_vectors(text, names, [prompt]) for prompt in ("a", "a broken")]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_length_one(text: TextEncoder) -> None:
    vectors = text_vectors(text, starting_names(CATEGORIES, text, "dataset", None), ["a"], normalised=True)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_without_bert_the_order_of_words_is_lost(text: TextEncoder) -> None:
    words = text.words("metal nut")
    turned = [words, words.flip(0)]
    kept, lost = (text_vectors(text, turned, ["a"], encoded=encoded) for encoded in (True, False))
    assert not torch.allclose(kept[0], kept[1])
    torch.testing.assert_close(lost[0], lost[1])


def test_a_vector_does_not_depend_on_the_other_names(text: TextEncoder) -> None:
    names = starting_names(CATEGORIES, text, "dataset", None)
    together = text_vectors(text, names, ["a broken"])
    for index, name in enumerate(names):
        assert torch.equal(text_vectors(text, [name], ["a broken"])[0], together[index])
