"""Examples for the base model without our adapter: what the adapter is held against."""

from __future__ import annotations

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("> Count the nuclei.", "$1 count *"),
    ("> outline the epidermis and the dermis", "$1 segment epidermis\n$2 segment dermis"),
    ("> how many lymphocytes inside the tumour?", "$1 segment tumor\n$2 count lymphocyte in $1"),
    ("> mitoses outside necrotic areas", "$1 segment necrosis\n$2 count mitosis out $1"),
    ("> How many glands are there?", "$1 segment gland\n$2 boxes $1"),
    (
        "> what percentage of this kidney biopsy is glomeruli",
        "$1 tissue kidney\n$2 segment glomerulus\n$3 measure $2",
    ),
    ("> which tissue is this?", "$1 tissue ?"),
    (
        "> Outline the stroma.\n$1 segment stroma\n= stroma present, 41% of the tissue\n"
        "> now measure it",
        "$2 measure $1",
    ),
    (
        "> count the plasma cells\n$1 count plasma cell\n= 31 plasma cells\n> and box them",
        "$2 boxes $1",
    ),
    ("> What Gleason grade is this?", "$1 reply decline grade"),
    ("> do it again but better", "$1 reply clarify target"),
    ("> thanks!", "$1 reply answer courtesy"),
)
"""Threads and their plans, in the form of `models.planner.serialise`."""
