"""Checks of the loss that takes unlikely words out of the odds of answers."""

import torch

from corpus import ASSISTANT, BOS, END, USER
from tails import in_answers, tail_weights


def test_answers_are_found_by_their_marks():
    """What follows ASSISTANT up to its END, and BOS behind it, which weighs nothing anyway."""
    inputs = torch.tensor(
        [[7, BOS, USER, 8, END, ASSISTANT, 9, END, USER, 10], [7, 7, ASSISTANT, 9] + [BOS] * 6]
    )
    wanted = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 1] + [0] * 6])
    assert torch.equal(in_answers(inputs), wanted.bool())


def test_tail_loss_takes_the_unlikely_out_of_the_odds():
    """Its optimum is the true odds less a constant, left out below it; the floor keeps some."""
    truth = torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01])

    def learn(gamma: float, floor: float) -> torch.Tensor:
        logits = truth.log().clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.02)
        for _ in range(3000):
            nats = -logits.log_softmax(0)
            optimizer.zero_grad()
            (truth * nats * tail_weights(nats, gamma, floor)).sum().backward()
            optimizer.step()
        return logits.detach().softmax(0)

    cut = learn(0.1, 0.0)
    scale = (cut[0] - cut[1]) / (truth[0] - truth[1])
    assert torch.allclose(cut[1] - cut[2], scale * (truth[1] - truth[2]), rtol=1e-2)
    assert cut[2] < truth[2] and cut[3] < 1e-3 and cut[4] < 1e-3
    kept = learn(0.1, 0.25)
    assert 1e-3 < kept[4] < truth[4] / 2 and kept[0] > truth[0]
    assert torch.allclose(learn(0.1, 1.0), truth, atol=1e-3)
