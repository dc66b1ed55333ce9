"""Scores of float queries by loops."""

import math

import torch


def score(values, code):
    """The definition, summed exactly."""
    return math.fsum(value * bit for value, bit in zip(values.tolist(), code.tolist(), strict=True))


def ranked(values, codes, candidates, k):
    """The k best of some candidates, in a loop; equal scores keep the order of the candidates."""
    scores = [score(values, codes[row]) for row in candidates]
    places = sorted(range(len(candidates)), key=lambda place: -scores[place])[:k]
    return [scores[place] for place in places], places


def few_values(queries, bits, generator):
    """Values of which many sums are equal."""
    return torch.randint(-2, 3, (queries, bits), generator=generator) / 4
