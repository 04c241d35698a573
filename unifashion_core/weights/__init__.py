"""Weight files: read any of them by content, write safetensors atomically. What the tensors mean is
for the part that loads them.
"""

from .place import fill_module as fill_module
from .place import place_tensor as place_tensor
from .read import read_config as read_config
from .read import read_json as read_json
from .read import read_weights as read_weights
from .receipts import licence_of as licence_of
from .values import StoredTensor as StoredTensor
from .values import WeightFormat as WeightFormat
from .values import Weights as Weights
from .values import shorten as shorten
from .write import raw_bytes as raw_bytes
from .write import replace_files as replace_files
from .write import stream_safetensors as stream_safetensors
from .write import write_json as write_json
from .write import write_safetensors as write_safetensors
