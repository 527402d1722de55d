"""Training answers on what is likely: a loss that takes unlikely words out of a small model's odds.

Cross entropy makes a model give every word that ever followed its chance, so that drawn answers
soon leave the path; a small model pays for these chances with its better ones. Follows TaiLr
("Tailoring Language Generation Models under Total Variation Distance", Ji et al., ICLR 2023): a
token's loss is weighed by p / (gamma + (1 - gamma) p), p being its chance, which in the limit takes
gamma times a constant from the true chance of every token and leaves the rarer ones out. A floor
keeps some of the plain loss, and with it what the model knows of rare words.
"""

import torch
from torch import Tensor

from corpus import ASSISTANT, BOS, SYSTEM, USER


def in_answers(inputs: Tensor) -> Tensor:
    """[batch, time] bool: the next token belongs to an assistant turn that is marked here."""
    is_mark = torch.zeros_like(inputs, dtype=torch.bool)
    for mark in (BOS, SYSTEM, USER, ASSISTANT):
        is_mark |= inputs == mark
    places = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
    last = torch.where(is_mark, places, -1).cummax(1).values
    return (last >= 0) & (inputs.gather(1, last.clamp(min=0)) == ASSISTANT)


def tail_weights(nats: Tensor, gamma: float, floor: float) -> Tensor:
    """Same shape as `nats`, the tokens' losses: floor..1, for the loss to be multiplied with."""
    chance = torch.exp(-nats.detach())
    return floor + (1 - floor) * chance / (gamma + (1 - gamma) * chance)
