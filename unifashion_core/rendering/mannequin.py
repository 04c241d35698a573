"""A neutral mannequin of the wardrobe, for designs without a person."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..imaging import to_tensor
from ..wardrobe import Person, render_person, sample_garment
from ..wardrobe.person import Limb
from .prepared import PreparedPerson, prepare_person
from .tools import TryOnTools

MANNEQUIN = "no person given: a neutral mannequin wears it"

_HEIGHT = 768
_ARM, _LEG = Limb(0.3, 0.2), Limb(0.06, 0.05)


def mannequin_photo(region: str = "upper") -> torch.Tensor:
    """The mannequin in plain grey clothes, (H, W, 3), 0..1; always the same one.

    Args:
        region: What will be painted; for a dress it wears one.
    """
    kinds = ("dress",) if region == "dress" else ("pants", "t-shirt")
    plain = {"colours": "grey", "pattern": "plain"}
    garments = tuple(sample_garment(3, category=kind, **plain) for kind in kinds)
    person = Person(
        seed=5,
        skin=(226, 178, 142),
        hair=(58, 40, 30),
        hair_style="short",
        width=1.0,
        arms=(_ARM, _ARM),
        legs=(_LEG, _LEG),
        lean=0.0,
        framing="full",
        garments=garments,
        shoes=(90, 90, 92),
    )
    return to_tensor(render_person(person, _HEIGHT).image)


def prepare_mannequin(
    tools: TryOnTools, region: str = "upper", size: tuple[int, int] | None = None
) -> PreparedPerson:
    """The mannequin, ready for a model; its notes say what it is.

    Args:
        tools: The model and the preparer.
        region: What is worn anew.
        size: Height and width of the model's frame; None: what the model was trained on.
    """
    photo = tools.cache.get_or_make("mannequin", [region], lambda: mannequin_photo(region))
    made = prepare_person(tools, photo, region, size=size)
    return replace(made, notes=(MANNEQUIN, *made.notes))
