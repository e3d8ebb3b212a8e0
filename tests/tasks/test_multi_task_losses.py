"""Losses and figures of several tasks against closed forms, loops and scikit-learn."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torchvision.ops import generalized_box_iou

from cnnbench.errors import UserError
from cnnbench.tasks import MultiTaskTask, retrieval
from cnnbench.tasks.multi_task_losses import (
    BoxLoss,
    CosineLoss,
    SupervisedContrastiveLoss,
    effective_weights,
    weighted_sum,
)
from cnnbench.tasks.retrieval import RecallAtOne


@pytest.fixture
def embeddings():
    return F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), dim=1)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 3])  # the only 3 has no partner


def test_box_loss_is_that_of_detr():
    there = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]])
    found = torch.tensor([[0.2, 0.2, 0.6, 0.8], [0.5, 0.5, 0.6, 0.6]])
    expected = 5 * (found - there).abs().sum(1) + 2 * (1 - generalized_box_iou(found, there).diagonal())
    torch.testing.assert_close(BoxLoss()(found, there), expected.mean())
    torch.testing.assert_close(BoxLoss()(there, there), torch.tensor(0.0))
    torch.testing.assert_close(BoxLoss()(found.double(), there), expected.mean().double())
    torch.testing.assert_close(BoxLoss()(found, there.double()), expected.mean())


def test_supervised_contrastive_loss_is_the_papers_sum(embeddings):
    of_anchors = []
    for i, anchor in enumerate(embeddings):
        others = [j for j in range(12) if j != i]
        partners = [j for j in others if LABELS[j] == LABELS[i]]
        scale = sum(math.exp(anchor @ embeddings[j] / 0.1) for j in others)
        if partners:
            logs = [math.log(math.exp(anchor @ embeddings[p] / 0.1) / scale) for p in partners]
            of_anchors.append(-sum(logs) / len(partners))
    assert SupervisedContrastiveLoss()(embeddings, LABELS).item() == pytest.approx(sum(of_anchors) / 11, rel=1e-5)


@pytest.mark.parametrize("loss", [SupervisedContrastiveLoss(), CosineLoss()])
def test_mixed_precision_does_not_round_cosines(loss, embeddings):
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(embeddings, LABELS)
    assert torch.equal(mixed, loss(embeddings, LABELS))


def test_cosine_loss_is_the_mean_over_pairs(embeddings):
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    cosine = {(i, j): (embeddings[i] @ embeddings[j]).item() for i, j in pairs}
    same = [1 - cosine[pair] for pair in pairs if LABELS[pair[0]] == LABELS[pair[1]]]
    other = [max(0, cosine[pair] - 0.2) for pair in pairs if LABELS[pair[0]] != LABELS[pair[1]]]
    expected = sum(same) / len(same) + sum(other) / len(other)
    assert CosineLoss(margin=0.2)(embeddings, LABELS).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [SupervisedContrastiveLoss(), CosineLoss()])
@pytest.mark.parametrize("labels", [[1], [0, 1, 2]])
def test_a_batch_without_partners_teaches_nothing_and_breaks_nothing(loss, labels):
    raw = torch.eye(len(labels), 3).requires_grad_()
    value = loss(F.normalize(raw, dim=1), torch.tensor(labels))
    value.backward()
    assert value.item() == 0
    assert raw.grad.isfinite().all()


def test_learned_weights_come_to_rest_where_each_task_weighs_as_it_should():
    """d/ds (exp(-s) L + s / 2) = 0 where the weight times the loss is 1/2, of a regression as of a classification."""
    losses = {"classification": torch.tensor(0.2), "box": torch.tensor(3.0)}
    given = dict.fromkeys(losses, 1.0)
    log_variances = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([log_variances], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        weighted_sum(losses, effective_weights(given, log_variances), log_variances).backward()
        optimizer.step()
    weights = effective_weights(given, log_variances)
    for name, loss in losses.items():
        assert (weights[name] * loss).item() == pytest.approx(0.5, abs=1e-3)


def test_weights_that_are_given_are_a_plain_sum():
    losses = {"classification": torch.tensor(0.2), "box": torch.tensor(3.0)}
    weights = effective_weights({"classification": 2.0, "box": 0.5, "embedding": 7.0}, None)
    assert weighted_sum(losses, weights, None).item() == pytest.approx(0.4 + 1.5)


def test_recall_is_that_of_nearest_neighbours(embeddings, monkeypatch):
    monkeypatch.setattr(retrieval, "_AT_A_TIME", 5)
    metric = RecallAtOne()
    for start in range(0, 12, 4):
        metric.update(embeddings[start : start + 4], LABELS[start : start + 4])
    metric.update(embeddings[:0], LABELS[:0])  # another process counts this batch
    nearest = NearestNeighbors(n_neighbors=2, metric="cosine").fit(embeddings).kneighbors(return_distance=False)
    hits = [LABELS[own[0]] == LABELS[place] for place, own in enumerate(nearest)]
    assert metric.compute().item() == pytest.approx(sum(hits).item() / 12)


def test_one_image_has_no_neighbour(embeddings):
    metric = RecallAtOne()
    metric.update(embeddings[:1], LABELS[:1])
    assert metric.compute().isnan()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": {"box": 0.0}}, "heads.box is 0.0: its weight must be above 0"),
        ({"heads": {"box": math.inf}}, "heads.box is inf: its weight must be above 0, and finite"),
        ({"heads": {"bx": 1.0}}, "unknown head 'bx'; did you mean 'box'"),
        ({"weighting": "uncertain"}, "unknown weighting 'uncertain'; did you mean 'uncertainty'"),
        ({"trained_heads": ["boxes"]}, "trained_heads has 'boxes': the heads are classification, box, embedding"),
        ({"trained_heads": []}, "trained_heads is empty"),
        ({"embedding_loss": "cosin"}, "unknown embedding_loss 'cosin'; did you mean 'cosine'"),
        ({"embedding_loss": "cosine", "heads": {"box": 1.0}}, "there is no embedding head: the heads are box"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        MultiTaskTask("lenet5", **arguments)
