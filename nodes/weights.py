"""Download known weights, when it is run and never else."""

from __future__ import annotations

from ..unifashion_core.errors import InputError
from ..unifashion_core.weights.known import KnownWeights, find_known, known_weights
from ..unifashion_core.weights.receipts import is_there
from ._comfy import download_folder, io
from ._convert import progress


class DownloadWeights(io.ComfyNode):
    """Fetch weights of the list into the models folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        known = known_weights()
        return io.Schema(
            node_id="UniFashion_DownloadWeights",
            display_name="Download Weights",
            category="UniFashion",
            description="Fetches weights that others publish into the models folder where the "
            "loaders look. Nothing is fetched before you have read the licence and run this node. "
            "A stopped download goes on where it was.",
            search_aliases=["model download", "checkpoint", "hugging face", "licence"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=list(known),
                    tooltip="What to fetch. "
                    + " ".join(
                        f"{name}: {_size(one)}, {one.licence}." for name, one in known.items()
                    ),
                ),
                io.Boolean.Input(
                    "licence_read",
                    default=False,
                    tooltip="Off: only say what would be fetched, from where and under which "
                    "licence. On: you have read the licence; fetch it.",
                ),
            ],
            outputs=[
                io.String.Output("name", tooltip="How the loader's list calls it."),
                io.String.Output(
                    "report", tooltip="Where it lies, its licence, and the hashes that were seen."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, *, weights: str | None = None, **_: object) -> object:
        """Look again while it is not there."""
        if weights not in known_weights():
            return float("nan")
        known = find_known(weights)
        return "there" if is_there(known, download_folder(known.kind)) else float("nan")

    @classmethod
    def execute(cls, *, weights: str, licence_read: bool) -> io.NodeOutput:
        known = find_known(weights)
        models = download_folder(known.kind)
        if not licence_read and not is_there(known, models):
            raise InputError(
                f"Download Weights: {known.licence_line}; {_size(known)} into {models}; "
                f"{known.pin}. {known.note} Turn licence_read on once you have read it."
            )
        # Python's HTTP client takes longer to import than the whole pack: only who downloads waits
        from ..unifashion_core.weights.download import download_weights

        done = download_weights(known, models, on_step=progress())
        report = "\n".join([*done.lines(), "Press R to see it in the loader's list."])
        return io.NodeOutput(done.name, report, ui={"text": [report]})


def _size(known: KnownWeights) -> str:
    size = known.expected_bytes
    if not size:
        return "size not known"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
