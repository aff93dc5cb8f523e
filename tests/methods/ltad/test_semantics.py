"""Semantic scores: the paper's numbers of parameters, and what must hold whatever the weights."""

from __future__ import annotations

import math

import pytest
import torch

from methods.ltad.semantics import SemanticProjections, abnormal_logits, semantic_loss

ALIGN = (32, 48, 80, 224)


def patches(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 9, sum(ALIGN), generator=torch.Generator().manual_seed(seed))


def vectors(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 640, generator=torch.Generator().manual_seed(seed)) / 25


def test_the_papers_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in SemanticProjections(ALIGN, 640).parameters()) == 248_320


def test_max_is_above_every_layer_and_mean_between() -> None:
    highest, mean = (SemanticProjections(ALIGN, 640, pooling=pooling) for pooling in ("max", "mean"))
    mean.load_state_dict(highest.state_dict())
    each = [
        project(part) for project, part in zip(highest.maps, torch.split(patches(), list(ALIGN), dim=-1), strict=True)
    ]
    for layer in each:
        assert (highest(patches()) >= layer).all()
    torch.testing.assert_close(mean(patches()), sum(each) / 4)
    assert (highest(patches()) >= mean(patches()) - 1e-6).all()


def test_layers_may_change_places() -> None:
    order = [2, 0, 3, 1]
    plain = SemanticProjections(ALIGN, 640)
    turned = SemanticProjections([ALIGN[i] for i in order], 640)
    for place, index in enumerate(order):
        turned.maps[place].load_state_dict(plain.maps[index].state_dict())
    parts = torch.split(patches(), list(ALIGN), dim=-1)
    torch.testing.assert_close(turned(torch.cat([parts[i] for i in order], dim=-1)), plain(patches()))


def test_a_joint_projection_is_one_linear_map() -> None:
    joint = SemanticProjections(ALIGN, 640, projection="joint")
    assert sum(parameter.numel() for parameter in joint.parameters()) == sum(ALIGN) * 640 + 640
    torch.testing.assert_close(joint(patches()), joint.maps[0](patches()))


def test_a_sigmoid_is_the_softmax_of_two_texts() -> None:
    places, normal, abnormal = SemanticProjections(ALIGN, 640)(patches()), vectors(2, 1), vectors(2, 2)
    both = torch.stack([(places * text[:, None]).sum(-1) for text in (normal, abnormal)])
    for temperature in (1.0, 3.0):
        found = abnormal_logits(places, normal, abnormal, temperature).sigmoid()
        torch.testing.assert_close(found, (both / temperature).softmax(dim=0)[1])
        assert ((found > 0) & (found < 1)).all()


def test_equal_texts_say_nothing_and_swapped_ones_the_opposite() -> None:
    places, normal, abnormal = SemanticProjections(ALIGN, 640)(patches()), vectors(2, 1), vectors(2, 2)
    assert torch.equal(abnormal_logits(places, normal, normal).sigmoid(), torch.full((2, 9), 0.5))
    one, other = abnormal_logits(places, normal, abnormal), abnormal_logits(places, abnormal, normal)
    torch.testing.assert_close(one.sigmoid(), 1 - other.sigmoid())


def test_the_loss_has_both_halves() -> None:
    zeros = torch.zeros(2, 9)
    assert semantic_loss(zeros, zeros) == pytest.approx(math.log(2))
    assert semantic_loss(zeros - 20, zeros + 20) == pytest.approx(0, abs=1e-6)
    assert semantic_loss(zeros + 20, zeros + 20) == pytest.approx(10, abs=1e-3), "a constant is no solution"
    clean, noised = torch.randn(2, 9), torch.randn(2, 9)
    labels = torch.cat([torch.zeros(18), torch.ones(18)])
    logits = torch.cat([clean.flatten(), noised.flatten()])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(semantic_loss(clean, noised), expected)
