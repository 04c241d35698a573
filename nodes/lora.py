"""LoRA files over a try-on model."""

from __future__ import annotations

from ..unifashion_core.tryon.fingerprint import tryon_fingerprint
from ._comfy import find_model, io, list_models, manage, offload_device
from ._types import ManagedTryOn, TryOn

KIND = "loras"
"""ComfyUI's own folder."""

_NETWORKS = {"unet": "the UNet", "text": "the text encoder"}


class LoadTryOnLora(io.ComfyNode):
    """A style or a garment learned apart from the model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_LoadTryOnLora",
            display_name="Load Try-On LoRA",
            category="UniFashion/try-on",
            description="Puts a LoRA for Stable Diffusion 1 onto a try-on model. Connect several "
            "one behind the other; bypass one to see the difference.",
            search_aliases=["lora", "lora loader", "style", "fine-tune"],
            inputs=[
                TryOn.Input("model", tooltip="From Load Try-On Model, or another of this node."),
                io.Combo.Input(
                    "lora",
                    options=list_models(KIND),
                    tooltip="A file of ComfyUI's own folder models/loras, for Stable Diffusion 1, "
                    "in kohya's or diffusers' form.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much it counts: 0 = not at all, 1 = as trained, below 0 = the "
                    "opposite.",
                ),
            ],
            outputs=[
                TryOn.Output("model", tooltip="The model with it; the one that came in is kept."),
                io.String.Output("info", tooltip="How many layers changed, and in which network."),
            ],
        )

    @classmethod
    def execute(cls, *, model: ManagedTryOn, lora: str, strength: float) -> io.NodeOutput:
        from ..unifashion_core.tryon.lora import with_lora

        path = find_model(KIND, lora)
        if strength == 0:
            return io.NodeOutput(model, f"{lora}: strength 0, nothing changed")
        made = with_lora(model.model, path, strength, device=offload_device())
        patchers = dict(model.patchers)
        for name in made.changed:
            patchers[name] = manage(made.model.modules[name], name=f"UniFashionTryOn_{name}")
        name = f"{model.name} + {lora} at {strength:g}"
        managed = ManagedTryOn(made.model, name, tryon_fingerprint(made.model), patchers)
        changed = [_say_changed(*of) for of in made.changed.items()]
        return io.NodeOutput(
            managed, f"{name}: {', '.join(changed)}; fingerprint {managed.fingerprint[:8]}"
        )


def _say_changed(network: str, count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'} of {_NETWORKS[network]}"
