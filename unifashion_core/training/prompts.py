"""The prompts that pictures are contrasted with, and how much of a picture's target each has where
a part of it is no label but a belief."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InputError
from .arrays import as_tensor
from .beliefs import class_beliefs
from .claims import YES, values_of
from .config import TrainConfig
from .features import FeatureSource
from .records import ImageRecord

Indices = npt.NDArray[np.int64]


def prompt_texts(records: Sequence[ImageRecord], config: TrainConfig) -> list[list[str]]:
    """For each template of the config, the prompts of all combinations of the data's values.

    Raises:
        InputError: If a template names an attribute that no record has.
    """
    found: list[list[str]] = []
    for template in config.sampling.prompt_templates if config.loss.prompts else ():
        names = _named(template)
        held = [held_values(records, name) for name in names]
        for name, values in zip(names, held, strict=True):
            if not values:
                raise InputError(
                    f"Training config: prompt template {template!r} names '{name}', which no "
                    "record has. Use an attribute of the data."
                )
        products = itertools.product(*held)
        found.append([template.format(**dict(zip(names, p, strict=True))) for p in products])
    return found


def held_values(records: Sequence[ImageRecord], attribute: str) -> list[str]:
    """All values of an attribute in the data, sorted."""
    return sorted({v for r in records for v in values_of(r.attributes.get(attribute, ()))})


class BelievedPrompts:
    """Targets of the prompts by what is believed of a picture's class (its first kinship
    attribute), the other attributes as its label has them.

    Raises:
        InputError: If the features are not cached, so that there is nothing to read.
    """

    def __init__(
        self, records: Sequence[ImageRecord], features: FeatureSource, config: TrainConfig
    ) -> None:
        self._axes: list[int | None] = []
        self._sizes: list[list[int]] = []
        if not (config.loss.prompts and config.loss.beliefs):
            return
        attribute = config.loss.image_attributes[0]
        values = held_values(records, attribute)
        own = [values.index(values_of(r.attributes[attribute])[0]) for r in records]
        self._own = torch.tensor(own)
        self._chances = _chances(records, self._own, len(values), features)
        for template in config.sampling.prompt_templates:
            names = _named(template)
            self._axes.append(names.index(attribute) if attribute in names else None)
            self._sizes.append([len(held_values(records, name)) for name in names])

    def __call__(self, template: int, verdicts: Tensor, chosen: Indices) -> Tensor | None:
        """How much of each picture's target each prompt has.

        Args:
            template: Its number.
            verdicts: Its M prompts on the pictures, (M, B).
            chosen: Which records the pictures are, (B,).

        Returns:
            (M, B); a column sums to 1, or to 0 where no prompt is true of the picture. None without
            beliefs, or where the prompts do not name the class.
        """
        axis = self._axes[template] if self._axes else None
        if axis is None:
            return None
        pictures = as_tensor(chosen)
        count = len(pictures)
        grid = verdicts.view(*self._sizes[template], count).movedim(axis, 0)
        classes = len(grid)
        flat = (grid == YES).reshape(classes, -1, count)  # (classes, other values, B)
        # What a prompt says beside the class is true of a picture if it is so in its own class.
        true = flat[self._own[pictures], :, torch.arange(count)].T  # (other values, B)
        spread = self._chances[pictures].T[:, None] * true[None]
        target = spread.view(grid.shape).movedim(0, axis).reshape(verdicts.shape)
        whole = target.sum(dim=0)
        return target / whole.where(whole > 0, torch.ones_like(whole))


def _named(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _chances(
    records: Sequence[ImageRecord], own: Tensor, count: int, features: FeatureSource
) -> Tensor:
    """Beliefs on each record's class, (N, C): a photo's and its copies' by readings that saw
    neither; of other records the label."""
    if features.summaries is None:
        raise InputError(
            "Training config: 'beliefs' read cached features. Set 'cache': {'views': ...}."
        )
    photos = [i for i, r in enumerate(records) if r.source == "photo" and r.origin]
    origins = [records[i].origin for i in photos]
    found = class_beliefs(features.summaries()[photos], own[photos], origins, count)
    place = {origin: i for i, origin in enumerate(origins)}
    chances = torch.eye(count)[own]
    for i, record in enumerate(records):
        # Renders have origins of their own, which are numbers.
        if record.origin in place:
            chances[i] = found.chances[place[record.origin]]
    return chances
